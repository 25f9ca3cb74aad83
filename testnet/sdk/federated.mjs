// Checks of users on three nodes, the same for every SDK: Alice at alpha, Bob at beta, Carol at gamma.
//
// What an event must look like is said by functions without surroundings, because some SDKs run in
// a page of their own: all they use comes in as `more`.

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const page = { offset: 0, count: 50 };
const MESSAGES = 200;

/** How the users and their chats appear to each other. */
const form = {
  alice: 'alice@alpha_example',
  bob: 'bob@beta_example',
  carol: 'carol@gamma_example',
};

async function refused(work) {
  try {
    await work();
  } catch (error) {
    const text = `${error.errCode ?? ''} ${error.errMsg ?? error.message}`;
    return /\b1\d{3}\b/.exec(text)?.[0] ?? text;
  }
  throw new Error('it was not refused');
}

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M/wHwAEBgIApD5fRAAAAABJRU5ErkJggg==',
  'base64',
);

export async function federated({ check, alice, bob, carol, nodes, tokens }) {
  const picture = (device) => {
    const info = { uuid: 'p1', type: 'image/png', size: PNG.length, width: 1, height: 1, url: '' };
    return device.run('createImageMessageByFile', {
      sourcePicture: info,
      bigPicture: info,
      snapshotPicture: info,
      sourcePath: '',
      file: nodes.file(PNG, 'dot.png', 'image/png'),
    });
  };
  /** Whether a device gets the picture, and from its own node. */
  const fetched = async (device, node, { pictureElem }) => {
    const { url } = pictureElem.sourcePicture;
    const back = Buffer.from(await (await fetch(url)).arrayBuffer());
    const snapshot = await fetch(pictureElem.snapshotPicture.url);
    return [url.startsWith(nodes.home(node).api), back.equals(PNG), snapshot.status];
  };
  const chatOfAlice = `si_alice_${form.bob}`;
  const chatOfBob = `si_${form.alice}_bob`;
  const history = async (device, conversationID, count = 20) => {
    const parameters = { conversationID, startClientMsgID: '', count, viewType: 0 };
    return (await device.run('getAdvancedHistoryMessageList', parameters)).messageList ?? [];
  };
  const friends = async (device, ids) =>
    (await device.run('checkFriend', ids)).map(({ userID, result }) => [userID, result]);

  await check('somebody on another node is found as people type it', async () => {
    const users = await alice.run('getUsersInfo', ['bob@beta.example']);
    return users.map((user) => [user.userID, user.nickname]);
  });

  await check('nobody is found who is not there', async () => {
    // One SDK has an empty list for it, another an error.
    const users = await alice.run('getUsersInfo', ['nobody@beta.example']).catch(() => []);
    return users?.length ?? 0;
  });

  await check('a friend request crosses', async () => {
    await alice.run('addFriend', { toUserID: form.bob, reqMsg: 'hi from alpha' });
    const asked = await bob.until('OnFriendApplicationAdded');
    return [asked.fromUserID, asked.toUserID, asked.reqMsg];
  });

  await check('friend requests are listed on both nodes', async () => {
    const sent = await alice.run('getFriendApplicationListAsApplicant', page);
    const received = await bob.run('getFriendApplicationListAsRecipient', page);
    return [sent.map((r) => r.toUserID), received.map((r) => r.fromUserID)];
  });

  await check('the agreement crosses back', async () => {
    await bob.run('acceptFriendApplication', { toUserID: form.alice, handleMsg: 'welcome' });
    const accepted = await alice.until('OnFriendApplicationAccepted');
    return [accepted.toUserID, accepted.handleResult, accepted.handleMsg];
  });

  await check('both are friends', async () => {
    await pause(300);
    return [await friends(alice, [form.bob]), await friends(bob, [form.alice])];
  });

  await check('a second request to a friend is refused', async () =>
    refused(() => alice.run('addFriend', { toUserID: form.bob, reqMsg: 'again' })),
  );

  await check('a declined request is told', async () => {
    await carol.run('addFriend', { toUserID: form.bob, reqMsg: 'hi from gamma' });
    await bob.until('OnFriendApplicationAdded', (r, from) => r.fromUserID === from, form.carol);
    await bob.run('refuseFriendApplication', { toUserID: form.carol, handleMsg: 'later' });
    const rejected = await carol.until('OnFriendApplicationRejected');
    return [rejected.handleResult, rejected.handleMsg];
  });

  await check('a text passes', async () => {
    const sent = await alice.send({ recvID: form.bob }, 'createTextMessage', 'Grüße 🎉');
    const received = await bob.receive(sent.clientMsgID);
    return [sent.status, received.textElem.content, received.sendID, received.recvID];
  });

  await check('both see one conversation, each under its own name', async () => {
    const of = async (device, sourceID) =>
      (await device.run('getOneConversation', { sourceID, sessionType: 1 })).conversationID;
    return [await of(alice, form.bob), await of(bob, form.alice)];
  });

  await check('200 messages arrive in order, both ways at once', async () => {
    const say = async (from, to, mark) => {
      for (let n = 0; n < MESSAGES; n += 1) {
        await from.send({ recvID: to }, 'createTextMessage', `${mark} ${n}`);
      }
    };
    await Promise.all([say(alice, form.bob, 'a'), say(bob, form.alice, 'b')]);
    const texts = async (device, chat) => {
      const found = [];
      let start = '';
      for (let at = 0; at < 40 && found.length < 2 * MESSAGES; at += 1) {
        const parameters = { conversationID: chat, startClientMsgID: start, count: 40, viewType: 0 };
        const list =
          (await device.run('getAdvancedHistoryMessageList', parameters)).messageList ?? [];
        if (list.length === 0) break;
        start = list[0].clientMsgID;
        found.unshift(...list.map((message) => message.textElem?.content ?? ''));
      }
      return found;
    };
    const inOrder = (list, mark) => {
      const numbers = list.filter((text) => text.startsWith(`${mark} `)).map((t) => +t.slice(2));
      return numbers.length === MESSAGES && numbers.every((n, at) => n === at);
    };
    for (let tries = 0; tries < 100; tries += 1) {
      const seen = [await texts(alice, chatOfAlice), await texts(bob, chatOfBob)];
      if (seen.every((list) => inOrder(list, 'a') && inOrder(list, 'b'))) return true;
      await pause(200);
    }
    return false;
  });

  await check('reading is told to the author', async () => {
    const sent = await alice.send({ recvID: form.bob }, 'createTextMessage', 'read me');
    await bob.receive(sent.clientMsgID);
    await alice.forget();
    await bob.run('markConversationMessageAsRead', chatOfBob);
    const receipts = await alice.until(
      'OnRecvC2CReadReceipt',
      (list, id) => list.some((receipt) => receipt.msgIDList.includes(id)),
      sent.clientMsgID,
    );
    return receipts[0].userID;
  });

  await check('nothing is left unread', async () => {
    await pause(300);
    const one = await bob.run('getOneConversation', { sourceID: form.alice, sessionType: 1 });
    return one.unreadCount;
  });

  await check('a quote shows what it quotes', async () => {
    const first = await bob.send({ recvID: form.alice }, 'createTextMessage', 'really?');
    const quoted = await alice.receive(first.clientMsgID);
    const sent = await alice.send({ recvID: form.bob }, 'createQuoteMessage', {
      text: 'really',
      message: JSON.stringify(quoted),
    });
    const { quoteElem } = await bob.receive(sent.clientMsgID);
    return [quoteElem.text, quoteElem.quoteMessage.textElem.content, quoteElem.quoteMessage.sendID];
  });

  await check('a card of a third node stays a card of it', async () => {
    const card = { userID: form.carol, nickname: 'CAROL', faceURL: '', ex: '' };
    const sent = await alice.send({ recvID: form.bob }, 'createCardMessage', card);
    return (await bob.receive(sent.clientMsgID)).cardElem.userID;
  });

  await check('a card of the receiver itself is a card of a neighbour', async () => {
    const card = { userID: form.bob, nickname: 'BOB', faceURL: '', ex: '' };
    const sent = await alice.send({ recvID: form.bob }, 'createCardMessage', card);
    return (await bob.receive(sent.clientMsgID)).cardElem.userID;
  });

  await check('a message is revoked', async () => {
    const sent = await alice.send({ recvID: form.bob }, 'createTextMessage', 'oops');
    await bob.receive(sent.clientMsgID);
    await pause(300);
    await history(alice, chatOfAlice, 5);
    await alice.run('revokeMessage', { conversationID: chatOfAlice, clientMsgID: sent.clientMsgID });
    const revoked = await bob.until('OnNewRecvMessageRevoked');
    return [revoked.revokerID, revoked.clientMsgID === sent.clientMsgID];
  });

  await check('a picture is fetched from the own node', async () => {
    const message = await picture(alice);
    const sent = await alice.run('sendMessage', { recvID: form.bob, groupID: '', message });
    return fetched(bob, 'beta', await bob.receive(sent.clientMsgID));
  });

  await check('typing is shown', async () => {
    await bob.forget();
    await alice.run('changeInputStates', { conversationID: chatOfAlice, focus: true });
    return (await bob.until('OnConversationUserInputStatusChanged')).userID;
  });

  await check('who is online elsewhere is shown', async () => {
    const states = await alice.run('subscribeUsersStatus', [form.bob]);
    if (states.some((state) => state.status === 1)) return 1;
    const changed = await alice.until('OnUserStatusChanged', (s, id) => s.userID === id, form.bob);
    return changed.status;
  });

  await check("a friend's new name is told", async () => {
    await alice.forget();
    await bob.run('setSelfInfo', { nickname: 'Bob B.' });
    const changed = await alice.until('OnFriendInfoChanged', (f) => f.nickname === 'Bob B.');
    return [changed.userID, changed.nickname];
  });

  await check('who is blocked is refused as by a neighbour', async () => {
    await bob.run('addBlack', { toUserID: form.carol, ex: '' });
    await bob.until('OnBlackAdded');
    const blocked = await refused(() =>
      carol.send({ recvID: form.bob }, 'createTextMessage', 'hello?'),
    );
    await bob.run('removeBlack', form.carol);
    await bob.until('OnBlackDeleted');
    return blocked;
  });

  await check('who is no longer blocked gets through', async () => {
    const sent = await carol.send({ recvID: form.bob }, 'createTextMessage', 'thanks');
    return (await bob.receive(sent.clientMsgID)).textElem.content;
  });

  // ---- A group of all three, whose home is alpha.

  let group = '';
  const at = (device) => (device === alice ? group : `${group}@alpha_example`);
  const chat = (device) => `sg_${at(device)}`;
  const members = async (device) => {
    const list = await device.run('getGroupMemberList', { groupID: at(device), filter: 0, ...page });
    return list.map((member) => [member.userID.split('@')[0], member.roleLevel]).sort();
  };
  const everybody = [alice, bob, carol];
  const seqs = async (device) => {
    const list = await history(device, chat(device), 40);
    return list.filter((m) => m.contentType === 101).map((m) => [m.seq, m.textElem.content]);
  };

  await check('a group of three nodes is made and told', async () => {
    const made = await alice.run('createGroup', {
      memberUserIDs: [form.bob, form.carol],
      groupInfo: { groupName: 'Entente', groupType: 2, needVerification: 0 },
    });
    group = made.groupID;
    const joined = async (device) => {
      for (let tries = 0; tries < 100; tries += 1) {
        const groups = (await device.run('getJoinedGroupListPage', page)) ?? [];
        const found = groups.find((g) => g.groupID === at(device));
        if (found) return [found.groupName, found.memberCount, found.ownerUserID];
        await pause(100);
      }
      throw new Error(`${device.userID} is not in the group`);
    };
    return Promise.all([bob, carol].map(joined));
  });

  await check('members are the same everywhere', async () =>
    Promise.all(everybody.map((device) => members(device))),
  );

  await check('a message of each reaches the others', async () => {
    const texts = [];
    for (const from of everybody) {
      const sent = await from.send({ groupID: at(from) }, 'createTextMessage', `from ${from.userID}`);
      for (const to of everybody.filter((device) => device !== from)) {
        const received = await to.receive(sent.clientMsgID);
        texts.push([received.textElem.content, received.groupID === at(to)]);
      }
    }
    return texts;
  });

  await check('a picture of a member reaches everybody through the own node', async () => {
    const message = await picture(bob);
    const sent = await bob.run('sendMessage', { recvID: '', groupID: at(bob), message });
    const [atAlice, atCarol] = [alice, carol].map((device) => device.receive(sent.clientMsgID));
    return [
      await fetched(alice, 'alpha', await atAlice),
      await fetched(carol, 'gamma', await atCarol),
    ];
  });

  await check('seqs and order are the same everywhere', async () => {
    const sends = [];
    for (let n = 0; n < 10; n += 1) {
      for (const from of everybody) {
        sends.push(from.send({ groupID: at(from) }, 'createTextMessage', `${from.userID} ${n}`));
      }
    }
    await Promise.all(sends);
    for (let tries = 0; tries < 50; tries += 1) {
      const [a, b, c] = (await Promise.all(everybody.map(seqs))).map((s) => JSON.stringify(s));
      if (a === b && b === c && JSON.parse(a).length >= 33) return true;
      await pause(200);
    }
    return Promise.all(everybody.map(seqs));
  });

  await check('who is mentioned is marked', async () => {
    await carol.forget();
    await alice.send({ groupID: group }, 'createTextAtMessage', {
      text: '@carol look',
      atUserIDList: [form.carol],
      atUsersInfo: [{ atUserID: form.carol, groupNickname: 'CAROL' }],
    });
    const changed = await carol.until(
      'OnConversationChanged',
      (list, id) => list.some((c) => c.conversationID === id && c.groupAtType === 1),
      chat(carol),
    );
    return changed.length > 0;
  });

  await check('an ordinary member elsewhere cannot change the group', async () =>
    refused(() => bob.run('setGroupInfo', { groupID: at(bob), groupName: 'mine' })),
  );

  await check('a member elsewhere becomes an admin', async () => {
    await alice.run('setGroupMemberInfo', { groupID: group, userID: form.bob, roleLevel: 60 });
    await bob.until(
      'OnGroupMemberInfoChanged',
      (member) => member.userID === 'bob' && member.roleLevel === 60,
    );
    await pause(300);
    return Promise.all(everybody.map((device) => members(device)));
  });

  await check('an admin elsewhere changes the group', async () => {
    await bob.run('setGroupInfo', { groupID: at(bob), groupName: 'Entente 2' });
    const told = await Promise.all(
      [alice, carol].map((device) =>
        device.until('OnGroupInfoChanged', (g) => g.groupName === 'Entente 2'),
      ),
    );
    return told.length;
  });

  await check('a muted member cannot send until unmuted', async () => {
    const mute = { groupID: at(bob), userID: form.carol, mutedSeconds: 600 };
    await bob.run('changeGroupMemberMute', mute);
    await carol.until('OnGroupMemberInfoChanged', (member) => member.userID === 'carol');
    const muted = await refused(() =>
      carol.send({ groupID: at(carol) }, 'createTextMessage', 'hm'),
    );
    await bob.run('changeGroupMemberMute', { ...mute, mutedSeconds: 0 });
    await pause(500);
    const sent = await carol.send({ groupID: at(carol) }, 'createTextMessage', 'again');
    return [muted, sent.status];
  });

  await check('an admin elsewhere revokes the message of a member', async () => {
    const sent = await carol.send({ groupID: at(carol) }, 'createTextMessage', 'rude');
    await Promise.all([alice, bob].map((device) => device.receive(sent.clientMsgID)));
    await pause(300);
    await history(bob, chat(bob), 5);
    await alice.forget();
    await bob.run('revokeMessage', { conversationID: chat(bob), clientMsgID: sent.clientMsgID });
    const revoked = await alice.until('OnNewRecvMessageRevoked');
    return [revoked.revokerID, revoked.clientMsgID === sent.clientMsgID];
  });

  await check('a member is thrown out by an admin elsewhere', async () => {
    await bob.run('kickGroupMember', {
      groupID: at(bob),
      reason: 'rude',
      userIDList: [form.carol],
    });
    await carol.until('OnJoinedGroupDeleted', (g, id) => g.groupID === id, at(carol));
    await pause(300);
    return [await members(alice), await members(bob)];
  });

  await check('who was thrown out gets nothing more', async () => {
    await carol.forget();
    const sent = await alice.send({ groupID: group }, 'createTextMessage', 'without carol');
    await bob.receive(sent.clientMsgID);
    await pause(300);
    return carol.count('OnRecvNewMessages');
  });

  await check('who was thrown out cannot send', async () =>
    refused(() => carol.send({ groupID: at(carol) }, 'createTextMessage', 'let me in')),
  );

  await check('a member elsewhere invites again, and what was missed is there', async () => {
    await carol.forget();
    await bob.run('inviteUserToGroup', {
      groupID: at(bob),
      reason: 'sorry',
      userIDList: [form.carol],
    });
    await carol.until('OnJoinedGroupAdded', (g, id) => g.groupID === id, at(carol));
    const sent = await alice.send({ groupID: group }, 'createTextMessage', 'welcome back');
    await carol.receive(sent.clientMsgID);
    const list = await history(carol, chat(carol), 20);
    return list.map((m) => m.textElem?.content).includes('without carol');
  });

  await check('a group elsewhere is found by its ID', async () => {
    const [found] = await carol.run('getSpecifiedGroupsInfo', [at(carol)]);
    return [found.groupName, found.memberCount];
  });

  await check('the owner hands over to another node', async () => {
    await alice.run('transferGroupOwner', { groupID: group, newOwnerUserID: form.bob });
    const changed = await carol.until(
      'OnGroupInfoChanged',
      (g, id) => g.ownerUserID === id,
      form.bob,
    );
    await pause(500);
    return [changed.ownerUserID, await members(alice)];
  });

  await check('a member elsewhere quits', async () => {
    await alice.forget();
    await carol.run('quitGroup', at(carol));
    const gone = await alice.until('OnGroupMemberDeleted', (m, id) => m.userID === id, form.carol);
    await pause(500);
    return [gone.userID, await members(bob)];
  });

  await check('what is written while a node is down arrives when it is back', async () => {
    await nodes.stop('beta');
    const texts = ['meanwhile 1', 'meanwhile 2', 'meanwhile 3'];
    const sent = [];
    for (const text of texts) {
      sent.push(await alice.send({ recvID: form.bob }, 'createTextMessage', text));
    }
    const grouped = await alice.send({ groupID: group }, 'createTextMessage', 'to the group');
    await nodes.start('beta');
    // Whether they come as new or as missed depends on who is back first, the node or the client.
    const shows = async (conversationID, message) =>
      (await history(bob, conversationID, 5)).some((m) => m.clientMsgID === message.clientMsgID);
    let there = false;
    for (let tries = 0; tries < 150 && !there; tries += 1) {
      await pause(200);
      there = await Promise.all([shows(chatOfBob, sent.at(-1)), shows(chat(bob), grouped)])
        .then((shown) => shown.every(Boolean))
        .catch(() => false);
    }
    const list = (await history(bob, chatOfBob, 3)).map((message) => message.textElem?.content);
    return [sent.map((message) => message.status), list];
  });

  await check('who was away sends again', async () => {
    const sent = await bob.send({ recvID: form.alice }, 'createTextMessage', 'back');
    return (await alice.receive(sent.clientMsgID)).textElem.content;
  });

  await check('the owner elsewhere dismisses the group', async () => {
    await bob.run('dismissGroup', at(bob));
    await alice.until('OnGroupDismissed', (g, id) => g.groupID === id, group);
    return refused(() => alice.send({ groupID: group }, 'createTextMessage', 'hello?'));
  });

  await check('a friend is deleted', async () => {
    await alice.run('deleteFriend', form.bob);
    await alice.until('OnFriendDeleted');
    await pause(300);
    return [await friends(alice, [form.bob]), await friends(bob, [form.alice])];
  });

  await check('a fresh device rebuilds everything from its own node', async () => {
    const fresh = await nodes.fresh(bob, tokens);
    const list = await history(fresh, chatOfBob, 5);
    return list.map((message) => message.textElem?.content).includes('back');
  });
}
