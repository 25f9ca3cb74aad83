import { CbEvents, Device, call, cutConnections, pause, userToken } from '../client.mjs';

export default async function connection({ check, admin, alice, bob, carol }) {
  await check('a second device of another platform gets the same', async () => {
    const phone = new Device('bob', 2);
    await phone.start(await userToken(admin, 'bob', 2));
    const sent = await alice.send({ recvID: 'bob' }, 'createTextMessage', 'to both');
    const [at_web, at_phone] = await Promise.all(
      [bob, phone].map((device) => device.receive(sent.clientMsgID)),
    );
    bob.forget();
    const own = await phone.send({ recvID: 'alice' }, 'createTextMessage', 'from the phone');
    const echo = await bob.receive(own.clientMsgID);
    await phone.run('logout');
    return [at_web.textElem.content, at_phone.textElem.content, echo.sendID];
  });

  await check('online status is told as it changes', async () => {
    const tablet = new Device('bob', 9);
    await alice.run('subscribeUsersStatus', ['bob']);
    alice.forget();
    await tablet.start(await userToken(admin, 'bob', 9));
    const on = await alice.until(CbEvents.OnUserStatusChanged, (s) => s.platformIDs.includes(9));
    alice.forget();
    await tablet.run('logout');
    const off = await alice.until(CbEvents.OnUserStatusChanged, (s) => !s.platformIDs.includes(9));
    return [on.userID, on.status, off.status];
  });

  await check('after a cut connection everything missed comes, in order', async () => {
    carol.forget();
    cutConnections('carol');
    const texts = Array.from({ length: 300 }, (_, at) => `missed ${at}`);
    for (const text of texts) await bob.send({ recvID: 'carol' }, 'createTextMessage', text);
    await carol.until(CbEvents.OnConnectSuccess, () => true, null, 20_000);
    await carol.until(CbEvents.OnSyncServerFinish, () => true, null, 20_000);
    await pause(500);
    const found = [];
    let startClientMsgID = '';
    while (found.length < 300) {
      const { messageList, isEnd } = await carol.run('getAdvancedHistoryMessageList', {
        conversationID: 'si_bob_carol',
        startClientMsgID,
        count: 40,
      });
      found.unshift(...messageList);
      startClientMsgID = messageList[0]?.clientMsgID;
      if (isEnd || !startClientMsgID) break;
    }
    const last = found.slice(-300).map((m) => m.textElem?.content);
    return [last.length, last.every((text, at) => text === texts[at])];
  });

  await check('after the reconnection messages come at once', async () => {
    const sent = await bob.send({ recvID: 'carol' }, 'createTextMessage', 'live again');
    return (await carol.receive(sent.clientMsgID)).textElem.content;
  });

  await check('a new login of the same platform kicks the old one', async () => {
    const second = new Device('carol', 5);
    await second.start(await userToken(admin, 'carol', 5));
    await carol.until(CbEvents.OnKickedOffline);
    const sent = await alice.send({ recvID: 'carol' }, 'createTextMessage', 'which one?');
    const received = await second.receive(sent.clientMsgID);
    await call('/auth/force_logout', { platformID: 5, userID: 'carol' }, admin);
    await second.until(CbEvents.OnKickedOffline);
    return received.textElem.content;
  });

  await check('logging out ends the connection', async () => {
    await bob.run('logout');
    await pause(200);
    const found = await call('/user/get_users_online_status', { userIDs: ['bob'] }, admin);
    return found[0].status;
  });
}
