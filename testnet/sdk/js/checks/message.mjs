import { CbEvents, pause } from '../client.mjs';

const picture = (size) => ({
  uuid: `pic-${size}`,
  type: 'image/png',
  size,
  width: 10,
  height: 20,
  url: `http://img.example/${size}.png`,
});

const single = 'si_alice_bob';

export default async function message({ check, alice, bob, carol }) {
  /** Sends from alice to bob; what arrives, by the named element. */
  const passes = (name, element, create, ...parameters) =>
    check(name, async () => {
      const sent = await alice.send({ recvID: 'bob' }, create, ...parameters);
      const received = await bob.receive(sent.clientMsgID);
      return [sent.status, received.contentType, received[element]];
    });

  await passes('text', 'textElem', 'createTextMessage', 'Grüße 你好 🎉 <b>&amp;</b>');
  await passes('location', 'locationElem', 'createLocationMessage', {
    description: 'harbour',
    longitude: 9.99,
    latitude: 53.55,
  });
  await passes('custom', 'customElem', 'createCustomMessage', {
    data: '{"vote":1}',
    extension: 'x',
    description: 'a vote',
  });
  await passes('face', 'faceElem', 'createFaceMessage', { index: 3, data: 'smile' });
  await passes('card', 'cardElem', 'createCardMessage', {
    userID: 'carol',
    nickname: 'CAROL',
    faceURL: '',
    ex: '',
  });
  await passes('image by URL', 'pictureElem', 'createImageMessageByURL', {
    sourcePicture: picture(3000),
    bigPicture: picture(2000),
    snapshotPicture: picture(1000),
    sourcePath: '',
  });
  await passes('sound by URL', 'soundElem', 'createSoundMessageByURL', {
    uuid: 'sound-1',
    soundPath: '',
    sourceUrl: 'http://img.example/s.mp3',
    dataSize: 44,
    duration: 3,
    soundType: 'mp3',
  });
  await passes('video by URL', 'videoElem', 'createVideoMessageByURL', {
    videoPath: '',
    duration: 6,
    videoType: 'mp4',
    snapshotPath: '',
    videoUUID: 'video-1',
    videoUrl: 'http://img.example/v.mp4',
    videoSize: 1024,
    snapshotUUID: 'snap-1',
    snapshotSize: 128,
    snapshotUrl: 'http://img.example/v.png',
    snapshotWidth: 64,
    snapshotHeight: 48,
    snapShotType: 'png',
  });
  await passes('file by URL', 'fileElem', 'createFileMessageByURL', {
    filePath: '',
    fileName: 'paper.pdf',
    uuid: 'file-1',
    sourceUrl: 'http://img.example/paper.pdf',
    fileSize: 4096,
    fileType: 'application/pdf',
  });

  await check('quote', async () => {
    const first = await bob.send({ recvID: 'alice' }, 'createTextMessage', 'what do you think?');
    const quoted = await alice.receive(first.clientMsgID);
    const sent = await alice.send({ recvID: 'bob' }, 'createQuoteMessage', {
      text: 'I agree',
      message: JSON.stringify(quoted),
    });
    const { quoteElem } = await bob.receive(sent.clientMsgID);
    return [quoteElem.text, quoteElem.quoteMessage.textElem.content];
  });

  await check('merge', async () => {
    const one = await alice.send({ recvID: 'bob' }, 'createTextMessage', 'one');
    const two = await alice.send({ recvID: 'bob' }, 'createTextMessage', 'two');
    const sent = await alice.send({ recvID: 'bob' }, 'createMergerMessage', {
      messageList: [one, two],
      title: 'two messages',
      summaryList: ['one', 'two'],
    });
    const { mergeElem } = await bob.receive(sent.clientMsgID);
    return [mergeElem.title, mergeElem.multiMessage.map((m) => m.textElem.content)];
  });

  await check('forward', async () => {
    const original = await alice.send({ recvID: 'bob' }, 'createTextMessage', 'pass it on');
    const received = await bob.receive(original.clientMsgID);
    const sent = await bob.send({ recvID: 'carol' }, 'createForwardMessage', received);
    const arrived = await carol.receive(sent.clientMsgID);
    return [arrived.textElem.content, arrived.sendID, sent.clientMsgID !== original.clientMsgID];
  });

  await check('the sender is not told of its own message', async () => {
    alice.forget();
    await alice.send({ recvID: 'bob' }, 'createTextMessage', 'no echo');
    await pause(300);
    return alice.count(CbEvents.OnRecvNewMessages);
  });

  await check('an online-only message is not kept', async () => {
    const message = await alice.run('createTextMessage', 'fleeting');
    const sent = await alice.deliver({ recvID: 'bob', isOnlineOnly: true }, message);
    await pause(200);
    const history = await bob.run('getAdvancedHistoryMessageList', {
      conversationID: single,
      startClientMsgID: '',
      count: 5,
    });
    return history.messageList.some((m) => m.clientMsgID === sent.clientMsgID);
  });

  await check('typing is shown', async () => {
    bob.forget();
    await alice.run('changeInputStates', { conversationID: single, focus: true });
    const shown = await bob.until(CbEvents.OnConversationUserInputStatusChanged);
    return [shown.conversationID, shown.userID];
  });

  await check('an upload is sent and its content comes back', async () => {
    const file = new File([new Uint8Array(70_000).fill(7)], 'seven.bin', {
      type: 'application/octet-stream',
    });
    const { url } = await alice.run('uploadFile', { name: 'seven.bin', file, uuid: 'u1' });
    const back = new Uint8Array(await (await fetch(url)).arrayBuffer());
    return [back.length, back.every((byte) => byte === 7)];
  });

  await check('a file is uploaded and sent in one step', async () => {
    const file = new File(['hello file'], 'hello.txt', { type: 'text/plain' });
    const created = await alice.run('createFileMessageByFile', {
      filePath: '',
      fileName: 'hello.txt',
      uuid: 'file-2',
      sourceUrl: '',
      fileSize: file.size,
      file,
    });
    const sent = await alice.run('sendMessage', { recvID: 'bob', groupID: '', message: created });
    const { fileElem } = await bob.receive(sent.clientMsgID);
    return [fileElem.fileName, await (await fetch(fileElem.sourceUrl)).text()];
  });

  await check('a revoked message is told and gone', async () => {
    const sent = await alice.send({ recvID: 'bob' }, 'createTextMessage', 'oops');
    await bob.receive(sent.clientMsgID);
    const { clientMsgID } = sent;
    await pause(100);
    await alice.run('getAdvancedHistoryMessageList', {
      conversationID: single,
      startClientMsgID: '',
      count: 5,
    });
    await alice.run('revokeMessage', { conversationID: single, clientMsgID });
    const revoked = await bob.until(
      CbEvents.OnNewRecvMessageRevoked,
      (r) => r.clientMsgID === clientMsgID,
    );
    const { messageList } = await bob.run('getAdvancedHistoryMessageList', {
      conversationID: single,
      startClientMsgID: '',
      count: 3,
    });
    const now = messageList.find((m) => m.seq === revoked.seq) ?? messageList.at(-1);
    return [revoked.revokerID, revoked.sessionType, now.contentType];
  });

  await check('a message is deleted for one side only', async () => {
    const sent = await alice.send({ recvID: 'bob' }, 'createTextMessage', 'delete me');
    await bob.receive(sent.clientMsgID);
    const list = (device) =>
      device.run('getAdvancedHistoryMessageList', {
        conversationID: single,
        startClientMsgID: '',
        count: 3,
      });
    await list(bob);
    // The SDK lists its own message once the node has pushed it back.
    const listed = async () => (await list(alice)).messageList.at(-1)?.seq === sentSeq;
    const { seq: sentSeq } = (await list(bob)).messageList.at(-1);
    for (let tries = 0; tries < 100 && !(await listed()); tries += 1) await pause(20);
    await bob.run('deleteMessage', { conversationID: single, clientMsgID: sent.clientMsgID });
    const texts = async (device) =>
      (await list(device)).messageList.map((m) => m.textElem?.content ?? null).at(-1);
    return { alice: await texts(alice), bob: (await texts(bob)) === 'delete me' };
  });

  await check('history pages join without gaps or repeats', async () => {
    const seqs = [];
    let startClientMsgID = '';
    for (let page = 0; page < 20; page += 1) {
      const { messageList, isEnd } = await bob.run('getAdvancedHistoryMessageList', {
        conversationID: single,
        startClientMsgID,
        count: 4,
      });
      seqs.unshift(...messageList.map((m) => m.seq));
      startClientMsgID = messageList[0]?.clientMsgID;
      if (isEnd || !startClientMsgID) break;
    }
    const rising = seqs.every((seq, at) => at === 0 || seq > seqs[at - 1]);
    return { rising, unique: new Set(seqs).size === seqs.length, many: seqs.length > 15 };
  });
}
