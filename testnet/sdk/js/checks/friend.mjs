import { CbEvents } from '../client.mjs';

const page = { offset: 0, count: 20 };

export default async function friend({ check, refused, alice, bob, carol }) {
  await check('friend request is told to both', async () => {
    await alice.run('addFriend', { toUserID: 'bob', reqMsg: 'hi bob', ex: 'e' });
    const [at_alice, at_bob] = await Promise.all(
      [alice, bob].map((device) => device.until(CbEvents.OnFriendApplicationAdded)),
    );
    return [at_alice, at_bob].map((r) => [r.fromUserID, r.toUserID, r.reqMsg, r.handleResult]);
  });

  await check('friend requests are listed', async () => {
    const sent = await alice.run('getFriendApplicationListAsApplicant', page);
    const received = await bob.run('getFriendApplicationListAsRecipient', page);
    return { sent: sent.map((r) => r.toUserID), received: received.map((r) => r.fromUserID) };
  });

  await check('friend request is accepted', async () => {
    await bob.run('acceptFriendApplication', { toUserID: 'alice', handleMsg: 'welcome' });
    // This SDK never reports OnFriendAdded to the applicant.
    const accepted = await alice.until(CbEvents.OnFriendApplicationAccepted);
    return [accepted.toUserID, accepted.handleResult, accepted.handleMsg];
  });

  await check('the new friends share a conversation', async () => {
    const conversation = await alice.run('getOneConversation', { sourceID: 'bob', sessionType: 1 });
    return [conversation.conversationID, conversation.showName];
  });

  await check('a second request to a friend is refused', async () =>
    refused(() => alice.run('addFriend', { toUserID: 'bob', reqMsg: 'again' })),
  );

  await check('a request to oneself is refused', async () =>
    refused(() => alice.run('addFriend', { toUserID: 'alice', reqMsg: 'me' })),
  );

  await check('friend request is refused by the other', async () => {
    alice.forget();
    await alice.run('addFriend', { toUserID: 'carol', reqMsg: 'hi carol' });
    await carol.until(CbEvents.OnFriendApplicationAdded);
    await carol.run('refuseFriendApplication', { toUserID: 'alice', handleMsg: 'no' });
    const rejected = await alice.until(CbEvents.OnFriendApplicationRejected);
    return [rejected.handleResult, rejected.handleMsg];
  });

  await check('who is a friend', async () => {
    const found = await alice.run('checkFriend', ['bob', 'carol']);
    return found.map(({ userID, result }) => [userID, result]);
  });

  await check('friends are listed', async () => {
    const friends = await alice.run('getFriendListPage', page);
    return friends.map(({ userID, nickname }) => [userID, nickname]);
  });

  await check('a remark is set and told', async () => {
    alice.forget();
    await alice.run('updateFriends', { friendUserIDs: ['bob'], remark: 'Bobby', isPinned: true });
    const changed = await alice.until(CbEvents.OnFriendInfoChanged, (f) => f.remark === 'Bobby');
    const [found] = await alice.run('getSpecifiedFriendsInfo', ['bob']);
    return [changed.userID, found.remark, found.isPinned];
  });

  await check("a friend's new name is told", async () => {
    // A change of a remark is reported twice; the second may come only now.
    alice.forget();
    await bob.run('setSelfInfo', { nickname: 'Bob B.' });
    const changed = await alice.until(CbEvents.OnFriendInfoChanged, (f) => f.nickname === 'Bob B.');
    return [changed.userID, changed.nickname];
  });

  await check('blocking is told and listed', async () => {
    await carol.run('addBlack', { toUserID: 'bob', ex: '' });
    const added = await carol.until(CbEvents.OnBlackAdded);
    const list = await carol.run('getBlackList', page);
    return [added.userID, list.map((black) => black.userID)];
  });

  await check('the blocked one cannot send, the blocking one can', async () => {
    const blocked = await refused(() => bob.send({ recvID: 'carol' }, 'createTextMessage', 'hey'));
    const sent = await carol.send({ recvID: 'bob' }, 'createTextMessage', 'I can');
    const received = await bob.receive(sent.clientMsgID);
    return { blocked, received: received.textElem.content };
  });

  await check('unblocking lets messages through again', async () => {
    await carol.run('removeBlack', 'bob');
    await carol.until(CbEvents.OnBlackDeleted);
    const sent = await bob.send({ recvID: 'carol' }, 'createTextMessage', 'thanks');
    return (await carol.receive(sent.clientMsgID)).textElem.content;
  });

  await check('a friend is deleted', async () => {
    await carol.run('addFriend', { toUserID: 'bob', reqMsg: 'friends?' });
    await bob.until(CbEvents.OnFriendApplicationAdded, (r) => r.fromUserID === 'carol');
    await bob.run('acceptFriendApplication', { toUserID: 'carol', handleMsg: '' });
    await carol.until(CbEvents.OnFriendApplicationAccepted);
    await carol.run('deleteFriend', 'bob');
    const deleted = await carol.until(CbEvents.OnFriendDeleted);
    const left = await carol.run('getFriendListPage', page);
    return [deleted.userID, left.length];
  });
}
