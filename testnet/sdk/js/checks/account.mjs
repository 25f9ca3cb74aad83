import { CbEvents, Device, pause } from '../client.mjs';

export default async function account({ check, alice, bob }) {
  await check('login with a bad token is refused', async () => {
    const stranger = new Device('alice', 5);
    await stranger.logIn('not.a.token').catch(() => {});
    await stranger.until(CbEvents.OnUserTokenInvalid);
    return stranger.count(CbEvents.OnConnectSuccess);
  });

  await check('self info', async () => {
    const self = await alice.run('getSelfUserInfo');
    return { userID: self.userID, nickname: self.nickname, option: self.globalRecvMsgOpt };
  });

  await check('self info is changed and told', async () => {
    alice.forget();
    await alice.run('setSelfInfo', { nickname: 'Alice A.', ex: '{"mood":"fine"}' });
    const told = await alice.until(CbEvents.OnSelfInfoUpdated);
    const self = await alice.run('getSelfUserInfo');
    return { told: told.nickname, nickname: self.nickname, ex: self.ex };
  });

  await check('users info', async () => {
    const users = await bob.run('getUsersInfo', ['alice', 'carol', 'nobody']);
    return users.map((user) => [user.userID, user.nickname]).sort();
  });

  await check('online status of others', async () => {
    const states = await alice.run('subscribeUsersStatus', ['bob', 'nobody']);
    return states.map(({ userID, status, platformIDs }) => ({ userID, status, platformIDs }));
  });

  await check('a quiet pause brings no events', async () => {
    alice.forget();
    await pause(200);
    return alice.events.length;
  });
}
