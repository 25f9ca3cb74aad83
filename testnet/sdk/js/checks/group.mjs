import { CbEvents, call, pause } from '../client.mjs';

const page = { offset: 0, count: 20 };

export default async function group({ check, refused, admin, alice, bob, carol }) {
  let groupID = '';
  let conversationID = '';
  const members = async (device) => {
    const list = await device.run('getGroupMemberList', { groupID, filter: 0, ...page });
    return list.map((m) => [m.userID, m.roleLevel]);
  };

  await check('a group is created and told', async () => {
    const made = await alice.run('createGroup', {
      memberUserIDs: ['bob'],
      groupInfo: { groupName: 'Crew', groupType: 2, needVerification: 0 },
    });
    groupID = made.groupID;
    conversationID = `sg_${groupID}`;
    const at_bob = await bob.until(CbEvents.OnJoinedGroupAdded, (g) => g.groupID === groupID);
    await alice.until(CbEvents.OnJoinedGroupAdded, (g) => g.groupID === groupID);
    return [at_bob.groupName, at_bob.ownerUserID, at_bob.memberCount];
  });

  await check('members are listed by rank', async () => members(alice));

  await check('joined groups are listed', async () => {
    const list = await bob.run('getJoinedGroupListPage', page);
    return list.map((g) => g.groupName);
  });

  await check('a group message reaches every member', async () => {
    const sent = await alice.send({ groupID }, 'createTextMessage', 'hello crew');
    const received = await bob.receive(sent.clientMsgID);
    return [received.textElem.content, received.sessionType, received.groupID === groupID];
  });

  await check('a stranger cannot send to the group', async () =>
    refused(() => carol.send({ groupID }, 'createTextMessage', 'let me in')),
  );

  await check('joining needs approval; it is asked for and given', async () => {
    await carol.run('joinGroup', { groupID, reqMsg: 'please', joinSource: 3 });
    const asked = await alice.until(CbEvents.OnGroupApplicationAdded, (r) => r.groupID === groupID);
    const list = await alice.run('getGroupApplicationListAsRecipient', page);
    await alice.run('acceptGroupApplication', { groupID, fromUserID: 'carol', handleMsg: 'ok' });
    const joined = await carol.until(CbEvents.OnJoinedGroupAdded, (g) => g.groupID === groupID);
    const added = await bob.until(CbEvents.OnGroupMemberAdded, (m) => m.userID === 'carol');
    const accepted = await carol.until(CbEvents.OnGroupApplicationAccepted);
    return [
      asked.userID,
      list.map((r) => r.userID),
      joined.memberCount,
      added.nickname,
      accepted.handleResult,
    ];
  });

  await check('who is in the group', async () => [
    await carol.run('isJoinGroup', groupID),
    await alice.run('getUsersInGroup', { groupID, userIDList: ['bob', 'carol', 'nobody'] }),
  ]);

  await check('the at mark is set for the one who is mentioned', async () => {
    carol.forget();
    const sent = await alice.send({ groupID }, 'createTextAtMessage', {
      text: '@carol look',
      atUserIDList: ['carol'],
      atUsersInfo: [{ atUserID: 'carol', groupNickname: 'CAROL' }],
    });
    const received = await carol.receive(sent.clientMsgID);
    const changed = await carol.until(CbEvents.OnConversationChanged, (list) =>
      list.some((c) => c.conversationID === conversationID && c.groupAtType === 1),
    );
    return [received.atTextElem.atUserList, changed.length > 0];
  });

  await check('group info is changed and told', async () => {
    await alice.run('setGroupInfo', { groupID, groupName: 'Crew 2', introduction: 'we sail' });
    const isNew = (g) => g.groupName === 'Crew 2' && g.groupID === groupID;
    const changed = await bob.until(CbEvents.OnGroupInfoChanged, isNew);
    await carol.until(CbEvents.OnGroupInfoChanged, isNew);
    const [found] = await carol.run('getSpecifiedGroupsInfo', [groupID]);
    return [changed.groupName, found.introduction];
  });

  await check('an announcement is told', async () => {
    await alice.run('setGroupInfo', { groupID, notification: 'lunch at noon' });
    const changed = await bob.until(
      CbEvents.OnGroupInfoChanged,
      (g) => g.notification === 'lunch at noon',
    );
    return changed.notificationUserID;
  });

  await check('a member is renamed', async () => {
    await bob.run('setGroupMemberInfo', { groupID, userID: 'bob', nickname: 'Bosun' });
    const changed = await alice.until(
      CbEvents.OnGroupMemberInfoChanged,
      (m) => m.nickname === 'Bosun',
    );
    return changed.userID;
  });

  await check('a member becomes an admin', async () => {
    await alice.run('setGroupMemberInfo', { groupID, userID: 'bob', roleLevel: 60 });
    await bob.until(
      CbEvents.OnGroupMemberInfoChanged,
      (m) => m.userID === 'bob' && m.roleLevel === 60,
    );
    return members(carol);
  });

  await check('an ordinary member cannot change the group', async () =>
    refused(() => carol.run('setGroupInfo', { groupID, groupName: 'mine' })),
  );

  await check('a muted member cannot send until unmuted', async () => {
    await bob.run('changeGroupMemberMute', { groupID, userID: 'carol', mutedSeconds: 600 });
    await carol.until(CbEvents.OnGroupMemberInfoChanged, (m) => m.userID === 'carol');
    const muted = await refused(() => carol.send({ groupID }, 'createTextMessage', 'hm'));
    await bob.run('changeGroupMemberMute', { groupID, userID: 'carol', mutedSeconds: 0 });
    const sent = await carol.send({ groupID }, 'createTextMessage', 'again');
    return [muted, sent.status];
  });

  await check('in a muted group only those in charge can send', async () => {
    await alice.run('changeGroupMute', { groupID, isMute: true });
    await carol.until(CbEvents.OnGroupInfoChanged, (g) => g.status === 3);
    const muted = await refused(() => carol.send({ groupID }, 'createTextMessage', 'hm'));
    const sent = await bob.send({ groupID }, 'createTextMessage', 'admins may');
    await alice.run('changeGroupMute', { groupID, isMute: false });
    await carol.until(CbEvents.OnGroupInfoChanged, (g) => g.status === 0);
    return [muted, sent.status];
  });

  await check('an admin revokes the message of a member', async () => {
    const sent = await carol.send({ groupID }, 'createTextMessage', 'rude');
    await bob.receive(sent.clientMsgID);
    await pause(100);
    await bob.run('getAdvancedHistoryMessageList', {
      conversationID,
      startClientMsgID: '',
      count: 5,
    });
    await bob.run('revokeMessage', { conversationID, clientMsgID: sent.clientMsgID });
    const revoked = await carol.until(CbEvents.OnNewRecvMessageRevoked);
    return [revoked.revokerID, revoked.clientMsgID === sent.clientMsgID];
  });

  await check('a member is kicked', async () => {
    await bob.run('kickGroupMember', { groupID, reason: 'rude', userIDList: ['carol'] });
    await carol.until(CbEvents.OnJoinedGroupDeleted, (g) => g.groupID === groupID);
    const gone = await alice.until(CbEvents.OnGroupMemberDeleted, (m) => m.userID === 'carol');
    return [gone.userID, await members(alice)];
  });

  await check('the kicked one gets nothing more', async () => {
    carol.forget();
    await alice.send({ groupID }, 'createTextMessage', 'without carol');
    await pause(300);
    return carol.count(CbEvents.OnRecvNewMessages);
  });

  await check('a member is invited again', async () => {
    carol.forget();
    await alice.run('inviteUserToGroup', { groupID, reason: 'sorry', userIDList: ['carol'] });
    const joined = await carol.until(CbEvents.OnJoinedGroupAdded, (g) => g.groupID === groupID);
    return joined.memberCount;
  });

  await check('a member quits', async () => {
    alice.forget();
    await carol.run('quitGroup', groupID);
    const gone = await alice.until(CbEvents.OnGroupMemberDeleted, (m) => m.userID === 'carol');
    return [gone.userID, await members(alice)];
  });

  await check('a refused application is told', async () => {
    carol.forget();
    await carol.run('joinGroup', { groupID, reqMsg: 'again?', joinSource: 3 });
    await alice.until(CbEvents.OnGroupApplicationAdded, (r) => r.reqMsg === 'again?');
    await alice.run('refuseGroupApplication', { groupID, fromUserID: 'carol', handleMsg: 'no' });
    const rejected = await carol.until(CbEvents.OnGroupApplicationRejected);
    return [rejected.handleResult, rejected.userID];
  });

  await check('the owner hands over', async () => {
    await alice.run('transferGroupOwner', { groupID, newOwnerUserID: 'bob' });
    const changed = await bob.until(CbEvents.OnGroupInfoChanged, (g) => g.ownerUserID === 'bob');
    return [changed.ownerUserID, await members(bob)];
  });

  await check('only the owner dismisses', async () => {
    const denied = await refused(() => alice.run('dismissGroup', groupID));
    await bob.run('dismissGroup', groupID);
    const gone = await alice.until(CbEvents.OnGroupDismissed, (g) => g.groupID === groupID);
    const after = await refused(() => alice.send({ groupID }, 'createTextMessage', 'hello?'));
    return [denied, gone.groupID === groupID, after];
  });

  await check('a group that anybody may join', async () => {
    const open = await call(
      '/group/create_group',
      {
        ownerUserID: 'alice',
        memberUserIDs: ['bob'],
        groupInfo: { groupName: 'Open', groupType: 2, needVerification: 2 },
      },
      admin,
    );
    groupID = open.groupInfo.groupID;
    await carol.run('joinGroup', { groupID, reqMsg: '', joinSource: 3 });
    const joined = await carol.until(CbEvents.OnJoinedGroupAdded, (g) => g.groupID === groupID);
    const sent = await carol.send({ groupID }, 'createTextMessage', 'here I am');
    const received = await bob.receive(sent.clientMsgID);
    return [joined.groupName, received.textElem.content];
  });
}
