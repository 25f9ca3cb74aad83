import { Device, call, pause, userToken } from '../client.mjs';

/** What lists and counts say agrees with what a user may see. */
export default async function visibility({ check, admin, alice, bob, carol }) {
  let groupID = '';
  const chat = () => `sg_${groupID}`;

  /** A device without local data. */
  const fresh = async (userID, platformID) => {
    const device = new Device(userID, platformID);
    await device.start(await userToken(admin, userID, platformID));
    await pause(300);
    return device;
  };

  await check('a new group whose messages came live is marked as read', async () => {
    const { data } = await alice.sdk.createGroup({
      memberUserIDs: ['bob', 'carol'],
      groupInfo: { groupName: 'Seen', groupType: 2 },
    });
    groupID = data.groupID;
    for (const text of ['first', 'second', 'third']) {
      const sent = await alice.send({ groupID }, 'createTextMessage', text);
      await Promise.all([bob, carol].map((device) => device.receive(sent.clientMsgID)));
    }
    await pause(300);
    await bob.run('markConversationMessageAsRead', chat());
    await pause(300);
    const one = await bob.run('getOneConversation', { sourceID: groupID, sessionType: 3 });
    return one.unreadCount;
  });

  await check('the last message is the newest that the user did not delete', async () => {
    const sent = await alice.send({ groupID }, 'createTextMessage', 'delete me');
    const { clientMsgID } = await bob.receive(sent.clientMsgID);
    await bob.run('deleteMessage', { conversationID: chat(), clientMsgID });
    await pause(300);
    const phone = await fresh('bob', 2);
    const one = await phone.run('getOneConversation', { sourceID: groupID, sessionType: 3 });
    await phone.run('logout');
    return JSON.parse(one.latestMsg).textElem.content;
  });

  await check('a deleted chat stays away from who has left the group', async () => {
    await carol.run('quitGroup', groupID);
    await pause(300);
    const body = { ownerUserID: 'carol', conversationIDs: [chat()] };
    await call('/conversation/delete_conversations', body, carol.token);
    const sent = await alice.send({ groupID }, 'createTextMessage', 'among us');
    await bob.receive(sent.clientMsgID);
    const phone = await fresh('carol', 2);
    const list = await phone.run('getConversationListSplit', { offset: 0, count: 100 });
    await phone.run('logout');
    return [list.length > 0, list.some((c) => c.conversationID === chat())];
  });
}
