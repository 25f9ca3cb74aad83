// Drives the official WASM SDK in Chromium against a node and compares with expected.json.
//
//   node suite.mjs           run all checks
//   node suite.mjs --write   write what was seen as the expectation
import { adminToken, call, userToken } from '../admin.mjs';
import { backUp, startFromBackup } from '../node.mjs';
import { Report } from '../report.mjs';
import { Device, launch, servePage } from './browser.mjs';

const report = new Report();
const { check } = report;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const page = { offset: 0, count: 20 };
const textsOf = (messages) => messages.map((message) => message.textElem?.content);

const admin = await adminToken();
const names = ['wanda', 'xaver', 'yara'];
await call(
  '/user/user_register',
  { users: names.map((name) => ({ userID: name, nickname: name.toUpperCase(), faceURL: '' })) },
  admin,
);
const address = await servePage();
const browser = await launch();
const contexts = [];
for (const _ of names) contexts.push(await browser.newContext());
const [wanda, xaver, yara] = names.map((name, at) => new Device(contexts[at], address, name, 5));
const tokens = {};
for (const device of [wanda, xaver, yara]) {
  await check(`${device.userID} logs in and synchronises`, async () => {
    await device.open();
    tokens[device.userID] = await userToken(admin, device.userID, 5);
    await device.start(tokens[device.userID]);
  });
}

await check('self info', async () => {
  const self = await wanda.run('getSelfUserInfo');
  return [self.userID, self.nickname];
});

await check('self info is changed and told', async () => {
  await wanda.run('setSelfInfo', { nickname: 'Wanda W.' });
  return (await wanda.until('OnSelfInfoUpdated')).nickname;
});

await check('a text passes', async () => {
  const sent = await wanda.send({ recvID: 'xaver' }, 'createTextMessage', 'Grüße 🎉');
  const received = await xaver.receive(sent.clientMsgID);
  return [sent.status, received.textElem.content, received.sendID];
});

await check('a friend request is sent and accepted', async () => {
  await wanda.run('addFriend', { toUserID: 'xaver', reqMsg: 'hi' });
  const asked = await xaver.until('OnFriendApplicationAdded');
  await xaver.run('acceptFriendApplication', { toUserID: 'wanda', handleMsg: 'ok' });
  const added = await wanda.until('OnFriendAdded');
  return [asked.reqMsg, added.userID];
});

await check('friends are listed', async () => {
  const friends = await wanda.run('getFriendList', false);
  return friends.map((friend) => friend.userID ?? friend.friendInfo?.userID);
});

await check('a user is blocked and unblocked', async () => {
  await xaver.run('addBlack', { toUserID: 'yara', ex: '' });
  const added = await xaver.until('OnBlackAdded');
  await xaver.run('removeBlack', 'yara');
  const deleted = await xaver.until('OnBlackDeleted');
  return [added.userID, deleted.userID];
});

let groupID = '';
await check('a group is created and told', async () => {
  const made = await wanda.run('createGroup', {
    memberUserIDs: ['xaver', 'yara'],
    groupInfo: { groupName: 'Trio', groupType: 2 },
  });
  groupID = made.groupID;
  for (const device of [wanda, xaver, yara]) {
    const conversation = `sg_${groupID}`;
    await device.until(
      'OnNewConversation',
      (list, id) => list.some((c) => c.conversationID === id),
      conversation,
    );
  }
  const joined = await yara.run('getJoinedGroupList');
  return joined.map((group) => [group.groupName, group.memberCount]);
});

await check('group members are listed', async () => {
  const list = await yara.run('getGroupMemberList', { groupID, filter: 0, ...page });
  return list.map((member) => [member.userID, member.roleLevel]).sort();
});

await check('a group message reaches every member', async () => {
  const sent = await xaver.send({ groupID }, 'createTextMessage', 'hello trio');
  const received = await Promise.all([wanda, yara].map((d) => d.receive(sent.clientMsgID)));
  return received.map((message) => message.textElem.content);
});

await check('a member is muted', async () => {
  await wanda.run('changeGroupMemberMute', { groupID, userID: 'yara', mutedSeconds: 600 });
  await yara.until('OnGroupMemberInfoChanged', (member) => member.userID === 'yara');
  const outcome = await yara
    .send({ groupID }, 'createTextMessage', 'hm')
    .then(() => 'sent', () => 'refused');
  await wanda.run('changeGroupMemberMute', { groupID, userID: 'yara', mutedSeconds: 0 });
  const sent = await yara.send({ groupID }, 'createTextMessage', 'again');
  return [outcome, sent.status];
});

await check('a member is kicked', async () => {
  await wanda.run('kickGroupMember', { groupID, reason: '', userIDList: ['yara'] });
  await yara.until('OnJoinedGroupDeleted');
  return ((await yara.run('getJoinedGroupList')) ?? []).length;
});

const blue = { fileBytes: Array.from({ length: 50_000 }, (_, at) => at % 251) };

await check('a picture is uploaded, sent and comes back', async () => {
  const png = Buffer.from(
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M/wHwAEBgIApD5fRAAAAABJRU5ErkJggg==',
    'base64',
  );
  const info = { uuid: 'p1', type: 'image/png', size: png.length, width: 1, height: 1, url: '' };
  const message = await wanda.run('createImageMessageByFile', {
    sourcePicture: info,
    bigPicture: info,
    snapshotPicture: info,
    sourcePath: '',
    file: { fileBytes: [...png], name: 'dot.png', type: 'image/png' },
  });
  const sent = await wanda.run('sendMessage', { recvID: 'xaver', groupID: '', message });
  const { pictureElem } = await xaver.receive(sent.clientMsgID);
  const back = Buffer.from(await (await fetch(pictureElem.sourcePicture.url)).arrayBuffer());
  const snapshot = await fetch(pictureElem.snapshotPicture.url);
  return [back.equals(png), snapshot.status, snapshot.headers.get('content-type')];
});

await check('a file is uploaded, sent and comes back', async () => {
  const file = { ...blue, name: 'blue.bin', type: 'application/octet-stream' };
  const message = await wanda.run('createFileMessageByFile', {
    filePath: '',
    fileName: 'blue.bin',
    uuid: 'f1',
    sourceUrl: '',
    fileSize: blue.fileBytes.length,
    file,
  });
  const sent = await wanda.run('sendMessage', { recvID: 'xaver', groupID: '', message });
  const { fileElem } = await xaver.receive(sent.clientMsgID);
  const back = new Uint8Array(await (await fetch(fileElem.sourceUrl)).arrayBuffer());
  return [fileElem.fileName, back.length, back.every((byte, at) => byte === at % 251)];
});

await check('uploadFile reports the address', async () => {
  const file = { ...blue, name: 'again.bin', type: 'application/octet-stream' };
  const { url } = await wanda.run('uploadFile', {
    name: 'again.bin',
    contentType: 'application/octet-stream',
    uuid: 'u1',
    cause: '',
    filepath: '',
    file,
  });
  return (await fetch(url)).status;
});

await check('a quote shows what it quotes', async () => {
  const first = await xaver.send({ recvID: 'wanda' }, 'createTextMessage', 'really?');
  const quoted = await wanda.receive(first.clientMsgID);
  const sent = await wanda.send({ recvID: 'xaver' }, 'createQuoteMessage', {
    text: 'really',
    message: JSON.stringify(quoted),
  });
  const { quoteElem } = await xaver.receive(sent.clientMsgID);
  return [quoteElem.text, quoteElem.quoteMessage.textElem.content];
});

await check('reading is told to the sender', async () => {
  const sent = await wanda.send({ recvID: 'xaver' }, 'createTextMessage', 'read me');
  await xaver.receive(sent.clientMsgID);
  await wanda.forget();
  await xaver.run('markConversationMessageAsRead', 'si_wanda_xaver');
  const receipts = await wanda.until('OnRecvC2CReadReceipt');
  return [receipts[0].userID, receipts[0].msgIDList.length > 0];
});

await check('the unread total follows', async () => {
  await pause(300);
  const before = await xaver.run('getTotalUnreadMsgCount');
  const sent = await wanda.send({ recvID: 'xaver' }, 'createTextMessage', 'one more');
  await xaver.receive(sent.clientMsgID);
  await pause(500);
  return Number(await xaver.run('getTotalUnreadMsgCount')) - Number(before);
});

await check('a message is revoked', async () => {
  const sent = await wanda.send({ recvID: 'xaver' }, 'createTextMessage', 'oops');
  await xaver.receive(sent.clientMsgID);
  await pause(300);
  await wanda.run('revokeMessage', {
    conversationID: 'si_wanda_xaver',
    clientMsgID: sent.clientMsgID,
  });
  const revoked = await xaver.until('OnNewRecvMessageRevoked');
  return [revoked.revokerID, revoked.clientMsgID === sent.clientMsgID];
});

await check('a message is deleted', async () => {
  const sent = await wanda.send({ recvID: 'xaver' }, 'createTextMessage', 'delete me');
  await xaver.receive(sent.clientMsgID);
  await pause(300);
  await xaver.run('deleteMessage', {
    conversationID: 'si_wanda_xaver',
    clientMsgID: sent.clientMsgID,
  });
  const left = await xaver.history('si_wanda_xaver', 3);
  return left.some((message) => message.clientMsgID === sent.clientMsgID);
});

await check('a conversation is pinned', async () => {
  await xaver.run('setConversation', { conversationID: 'si_wanda_xaver', isPinned: true });
  await xaver.until('OnConversationChanged', (list) => list.some((c) => c.isPinned));
  const list = await xaver.run('getAllConversationList');
  return list[0].conversationID;
});

await check('do not disturb is set', async () => {
  await xaver.run('setConversation', { conversationID: 'si_wanda_xaver', recvMsgOpt: 2 });
  await xaver.until('OnConversationChanged', (list) => list.some((c) => c.recvMsgOpt === 2));
  const one = await xaver.run('getOneConversation', { sourceID: 'wanda', sessionType: 1 });
  return one.recvMsgOpt;
});

await check('typing is shown', async () => {
  await xaver.forget();
  await wanda.run('changeInputStates', { conversationID: 'si_wanda_xaver', focus: true });
  const shown = await xaver.until('OnConversationUserInputStatusChanged');
  return [shown.userID, shown.platformIDs];
});

await check('online status of others', async () => {
  const states = await wanda.run('subscribeUsersStatus', ['xaver', 'nobody']);
  return states.map(({ userID, status }) => [userID, status]).sort();
});

await check('a page opened again still has its messages and gets what it missed', async () => {
  await xaver.page.close();
  const missed = [];
  for (const text of ['missed 1', 'missed 2', 'missed 3']) {
    missed.push(await wanda.send({ recvID: 'xaver' }, 'createTextMessage', text));
  }
  await xaver.open();
  await xaver.start(tokens.xaver);
  await pause(500);
  const texts = textsOf(await xaver.history('si_wanda_xaver', 40));
  return [texts.includes('Grüße 🎉'), texts.slice(-3)];
});

/** A browser without local data, in which xaver has logged in. */
async function freshXaver() {
  const fresh = new Device(await browser.newContext(), address, 'xaver', 5);
  await fresh.open();
  await fresh.start(tokens.xaver);
  await pause(500);
  return fresh;
}

await check('a fresh browser rebuilds everything from the node', async () => {
  const fresh = await freshXaver();
  const texts = textsOf(await fresh.history('si_wanda_xaver', 40));
  const friends = await fresh.run('getFriendList', false);
  const groups = await fresh.run('getJoinedGroupList');
  await fresh.page.close();
  return [texts.includes('Grüße 🎉'), texts.at(-1), friends.length, groups.length];
});

let seen = '';
await check('the last message of a fresh browser is the newest that was not deleted', async () => {
  const made = await wanda.run('createGroup', {
    memberUserIDs: ['xaver', 'yara'],
    groupInfo: { groupName: 'Seen', groupType: 2 },
  });
  seen = made.groupID;
  for (const text of ['stays', 'delete me']) {
    const sent = await wanda.send({ groupID: seen }, 'createTextMessage', text);
    await Promise.all([xaver, yara].map((device) => device.receive(sent.clientMsgID)));
    if (text === 'stays') continue;
    await pause(300);
    await xaver.run('deleteMessage', {
      conversationID: `sg_${seen}`,
      clientMsgID: sent.clientMsgID,
    });
  }
  await pause(300);
  const fresh = await freshXaver();
  const list = await fresh.run('getAllConversationList');
  await fresh.page.close();
  const one = list.find((c) => c.conversationID === `sg_${seen}`);
  return one ? JSON.parse(one.latestMsg).textElem?.content : 'no such conversation';
});

await check('a fresh browser knows nothing of a deleted chat of a group that was left', async () => {
  await yara.run('quitGroup', seen);
  await yara.until('OnJoinedGroupDeleted');
  await yara.run('deleteConversationAndDeleteAllMsg', `sg_${seen}`);
  await pause(300);
  const sent = await wanda.send({ groupID: seen }, 'createTextMessage', 'among us');
  await xaver.receive(sent.clientMsgID);
  const pad = new Device(await browser.newContext(), address, 'yara', 8);
  await pad.open();
  await pad.start(await userToken(admin, 'yara', 8));
  await pause(500);
  const list = await pad.run('getAllConversationList');
  await pad.page.close();
  return [list.length > 0, list.some((c) => c.conversationID === `sg_${seen}`)];
});

await check('a second device of another platform gets the same', async () => {
  const pad = new Device(await browser.newContext(), address, 'xaver', 8);
  await pad.open();
  await pad.start(await userToken(admin, 'xaver', 8));
  const sent = await wanda.send({ recvID: 'xaver' }, 'createTextMessage', 'to both');
  const both = await Promise.all([xaver, pad].map((d) => d.receive(sent.clientMsgID)));
  const own = await pad.send({ recvID: 'wanda' }, 'createTextMessage', 'from the pad');
  const echo = await xaver.receive(own.clientMsgID);
  await pad.page.close();
  return [...both.map((message) => message.textElem.content), echo.sendID];
});

await check('users with hyphens chat, also in a group, and keep what was said', async () => {
  const people = ['anne-marie_2', 'jean-luc'];
  const users = people.map((userID) => ({ userID, nickname: userID, faceURL: '' }));
  await call('/user/user_register', { users }, admin);
  const token = {};
  for (const userID of people) token[userID] = await userToken(admin, userID, 5);
  const arrive = async (userID) => {
    const device = new Device(await browser.newContext(), address, userID, 5);
    await device.open();
    await device.start(token[userID]);
    return device;
  };
  const [anne, jean] = [await arrive(people[0]), await arrive(people[1])];
  const engage = await jean.send({ recvID: anne.userID }, 'createTextMessage', 'engage');
  const heard = [(await anne.receive(engage.clientMsgID)).textElem.content];
  const { groupID } = await jean.run('createGroup', {
    memberUserIDs: [anne.userID],
    groupInfo: { groupName: 'Bridge', groupType: 2 },
  });
  const shown = (list, id) => list.some((c) => c.conversationID === id);
  await anne.until('OnNewConversation', shown, `sg_${groupID}`);
  const aye = await anne.send({ groupID }, 'createTextMessage', 'aye');
  heard.push((await jean.receive(aye.clientMsgID)).textElem.content);
  const kept = async (device) => {
    await pause(500);
    const chats = [`si_${people.join('_')}`, `sg_${groupID}`];
    const seen = [];
    for (const chat of chats) seen.push(...textsOf(await device.history(chat)).filter(Boolean));
    return seen;
  };
  await jean.page.close();
  await jean.open();
  await jean.start(token[jean.userID]);
  const reloaded = await kept(jean);
  await jean.page.close();
  const fresh = await arrive(jean.userID);
  const rebuilt = await kept(fresh);
  for (const device of [anne, fresh]) await device.page.close();
  return { heard, reloaded, rebuilt };
});

await check('a new login of the same platform kicks the old one', async () => {
  const second = new Device(await browser.newContext(), address, 'yara', 5);
  await second.open();
  await second.start(await userToken(admin, 'yara', 5));
  await yara.until('OnKickedOffline');
  const sent = await wanda.send({ recvID: 'yara' }, 'createTextMessage', 'which one?');
  return (await second.receive(sent.clientMsgID)).textElem.content;
});

await check('a node restored from a backup goes on with clients that know more', async () => {
  const say = (from, to, text) => from.send({ recvID: to.userID }, 'createTextMessage', text);
  await xaver.receive((await say(wanda, xaver, 'in the backup')).clientMsgID);
  await xaver.run('markConversationMessageAsRead', 'si_wanda_xaver');
  await pause(300);
  await backUp();
  for (const text of ['too late 1', 'too late 2', 'too late 3']) {
    await xaver.receive((await say(wanda, xaver, text)).clientMsgID);
  }
  for (const device of [wanda, xaver]) await device.forget();
  await startFromBackup();
  for (const device of [wanda, xaver]) await device.until('OnConnectSuccess');
  const sent = [];
  for (const [from, to, text] of [
    [wanda, xaver, 'afterwards 1'],
    [wanda, xaver, 'afterwards 2'],
    [xaver, wanda, 'and back'],
  ]) {
    const message = await say(from, to, text);
    await to.receive(message.clientMsgID);
    sent.push(message.clientMsgID);
  }
  const arrived = await xaver.page.evaluate(
    (ids) =>
      window.events
        .filter((e) => e.event === 'OnRecvNewMessages')
        .flatMap((e) => e.data)
        .filter((message) => ids.includes(message.clientMsgID)).length,
    sent,
  );
  return { arrived, known: textsOf(await xaver.history('si_wanda_xaver', 7)) };
});

await check('what was read stays read after the restore', async () => {
  await xaver.run('markConversationMessageAsRead', 'si_wanda_xaver');
  const sent = await wanda.send({ recvID: 'xaver' }, 'createTextMessage', 'unread');
  await xaver.receive(sent.clientMsgID);
  await pause(500);
  const one = await xaver.run('getOneConversation', { sourceID: 'wanda', sessionType: 1 });
  return one.unreadCount;
});

await check('older messages are found across the seqs that the restore left out', async () => {
  const fresh = await freshXaver();
  const found = [];
  let start = '';
  for (let page = 0; page < 40 && !found.some((m) => m.textElem?.content === 'Grüße 🎉'); page++) {
    const more = await fresh.history('si_wanda_xaver', 20, start);
    found.unshift(...more);
    start = more[0]?.clientMsgID ?? start;
  }
  await fresh.page.close();
  const texts = textsOf(found);
  return [texts.includes('Grüße 🎉'), texts.slice(-5), new Set(found.map((m) => m.seq)).size === found.length];
});

const fine = await report.finish(new URL('./expected.json', import.meta.url));
await browser.close();
process.exit(fine ? 0 : 1);
