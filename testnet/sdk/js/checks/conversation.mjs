import { CbEvents, call, pause } from '../client.mjs';

const single = 'si_alice_bob';
const other = { sourceID: 'alice', sessionType: 1 };

export default async function conversation({ check, alice, bob, carol }) {
  await check('conversations are listed', async () => {
    const list = await bob.run('getConversationListSplit', { offset: 0, count: 20 });
    return list.map((c) => [c.conversationID, c.conversationType]).sort();
  });

  await check('reading clears the unread count and tells the sender', async () => {
    await bob.run('markConversationMessageAsRead', single).catch(() => {});
    await pause(200);
    alice.forget();
    const sent = await alice.send({ recvID: 'bob' }, 'createTextMessage', 'read me');
    await bob.receive(sent.clientMsgID);
    await pause(200);
    const before = (await bob.run('getOneConversation', other)).unreadCount;
    await bob.run('markConversationMessageAsRead', single);
    const [receipt] = await alice.until(CbEvents.OnRecvC2CReadReceipt);
    await pause(200);
    const after = (await bob.run('getOneConversation', other)).unreadCount;
    return { before, after, reader: receipt.userID, read: receipt.msgIDList.length };
  });

  await check('the unread total follows', async () => {
    const before = await bob.run('getTotalUnreadMsgCount');
    for (const text of ['1', '2', '3']) {
      const sent = await alice.send({ recvID: 'bob' }, 'createTextMessage', text);
      await bob.receive(sent.clientMsgID);
    }
    await pause(300);
    const during = await bob.run('getTotalUnreadMsgCount');
    await bob.run('markConversationMessageAsRead', single);
    await pause(300);
    return [during - before, (await bob.run('getTotalUnreadMsgCount')) - before];
  });

  const set = (name, parameters, look) =>
    check(name, async () => {
      bob.forget();
      await bob.run('setConversation', { conversationID: single, ...parameters });
      await bob.until(CbEvents.OnConversationChanged, (list) =>
        list.some((c) => c.conversationID === single && look(c)),
      );
      return look(await bob.run('getOneConversation', other));
    });
  await set('pin', { isPinned: true }, (c) => c.isPinned);
  await set('do not disturb', { recvMsgOpt: 2 }, (c) => c.recvMsgOpt === 2);
  await set('disturb again', { recvMsgOpt: 0 }, (c) => c.recvMsgOpt === 0);
  await set('burn after reading', { isPrivateChat: true, burnDuration: 30 }, (c) => c.isPrivateChat);
  await set('burn no more', { isPrivateChat: false }, (c) => !c.isPrivateChat);
  await set('extension', { ex: 'note' }, (c) => c.ex === 'note');

  await check('a pinned conversation comes first', async () => {
    const sent = await carol.send({ recvID: 'bob' }, 'createTextMessage', 'newer');
    await bob.receive(sent.clientMsgID);
    await pause(200);
    const list = await bob.run('getConversationListSplit', { offset: 0, count: 20 });
    return list[0].conversationID;
  });

  await check('with "do not receive" nothing comes', async () => {
    await bob.run('setConversation', { conversationID: 'si_bob_carol', recvMsgOpt: 1 });
    await pause(100);
    const outcome = await carol
      .send({ recvID: 'bob' }, 'createTextMessage', 'unwanted')
      .then(() => 'sent', () => 'refused');
    await bob.run('setConversation', { conversationID: 'si_bob_carol', recvMsgOpt: 0 });
    return outcome;
  });

  await check('everything is deleted', async () => {
    const pull = async () => {
      const seqRanges = [{ conversationID: 'si_bob_carol', begin: 1, end: 1000, num: 100 }];
      const body = { userID: 'carol', seqRanges };
      const { msgs } = await call('/msg/pull_msg_by_seq', body, carol.token);
      return msgs?.si_bob_carol?.Msgs?.length ?? 0;
    };
    const before = await pull();
    await carol.run('deleteAllMsgFromLocalAndSvr');
    return [before > 0, await pull()];
  });
}
