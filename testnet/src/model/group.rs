//! The model's rules of groups.

use std::collections::BTreeMap;

use super::device::User;
use super::expected::{ARGS, DENIED, FAILED, NOT_FOUND, OK, Outcome, Request, State, group_id};
use super::log::Parties;

const CREATED: i32 = 1501;
const APPLICATION: i32 = 1503;
const QUIT: i32 = 1504;
const ACCEPTED: i32 = 1505;
const REJECTED: i32 = 1506;
const TRANSFERRED: i32 = 1507;
const KICKED: i32 = 1508;
const INVITED: i32 = 1509;
const ENTERED: i32 = 1510;
const DISMISSED_KIND: i32 = 1511;
const MEMBER_MUTED: i32 = 1512;
const MEMBER_UNMUTED: i32 = 1513;
const MUTED: i32 = 1514;
const UNMUTED: i32 = 1515;
const MADE_ADMIN: i32 = 1517;
const MADE_ORDINARY: i32 = 1518;

const USER_NOT_FOUND: i64 = 1101;
const NOT_IN_GROUP: i64 = 1203;
const DISMISSED: i64 = 1204;
const HANDLED: i64 = 1206;
const MEMBER_IS_MUTED: i64 = 1402;
const GROUP_IS_MUTED: i64 = 1403;

/// Even invited users need approval.
const ALL_NEED_APPROVAL: i32 = 1;
/// Whoever wants to may join.
const OPEN: i32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Ordinary,
    Admin,
    Owner,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) role: Role,
    /// Silent up to this time, in milliseconds; `None` if not.
    muted_until: Option<i64>,
    /// Number of the action in which the member came, and the place among all who came.
    pub(super) joined: i64,
    place: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) members: BTreeMap<User, Member>,
    admission: i32,
    muted: bool,
    dismissed: bool,
    /// Who has come so far.
    places: u64,
    /// Until when people are silent who have left.
    silent: BTreeMap<User, i64>,
    /// Who asked to join, and who invited them.
    requests: BTreeMap<User, (Request, Option<User>)>,
}

impl Group {
    /// Members, by rank and then as they joined.
    pub(super) fn by_rank(&self) -> Vec<User> {
        let mut members: Vec<(&User, &Member)> = self.members.iter().collect();
        members.sort_by_key(|(_, member)| (std::cmp::Reverse(member.role), member.place));
        members.into_iter().map(|(user, _)| *user).collect()
    }

    fn enter(&mut self, user: User, role: Role, step: i64) {
        self.places += 1;
        let muted_until = self.silent.remove(&user);
        let member = Member { role, muted_until, joined: step, place: self.places };
        self.members.insert(user, member);
    }

    pub(super) fn role(&self, user: User) -> Option<Role> {
        self.members.get(&user).map(|member| member.role)
    }

    /// Whether a user is in charge.
    pub(super) fn manages(&self, user: User) -> bool {
        self.role(user) >= Some(Role::Admin)
    }

    fn outranks(&self, user: User, other: User) -> bool {
        self.manages(user) && self.role(user) > self.role(other)
    }

    pub(super) fn is_over(&self, user: User, author: Option<User>) -> bool {
        let of_author = author.and_then(|author| self.role(author));
        match self.role(user) {
            None => false,
            Some(_) if author == Some(user) => true,
            Some(Role::Owner) => true,
            Some(Role::Admin) => of_author < Some(Role::Admin),
            Some(Role::Ordinary) => false,
        }
    }

    pub(super) fn may_send(&self, from: User, now: i64) -> i64 {
        if self.dismissed {
            return DISMISSED;
        }
        let Some(member) = self.members.get(&from) else { return NOT_IN_GROUP };
        match member.role {
            Role::Owner => OK,
            _ if member.muted_until.is_some_and(|until| until >= now) => MEMBER_IS_MUTED,
            Role::Ordinary if self.muted => GROUP_IS_MUTED,
            _ => OK,
        }
    }

    fn managers(&self) -> Vec<User> {
        self.members.keys().copied().filter(|user| self.manages(*user)).collect()
    }
}

impl State {
    pub(super) fn create_group(
        &mut self,
        id: &str,
        owner: User,
        members: &[User],
        admission: i32,
        quiet: bool,
    ) -> Outcome {
        let mut group = Group {
            members: BTreeMap::new(),
            admission,
            muted: false,
            dismissed: false,
            places: 0,
            silent: BTreeMap::new(),
            requests: BTreeMap::new(),
        };
        group.enter(owner, Role::Owner, self.step);
        for user in members {
            group.enter(*user, Role::Ordinary, self.step);
        }
        self.groups.insert(id.to_owned(), group);
        self.log(&group_id(id), || Parties::Group(id.to_owned()));
        let mut outcome = Outcome::default();
        self.tell_most(&mut outcome, id, CREATED, owner, quiet);
        outcome
    }

    /// Tells all members, also in the chat.
    fn tell_all(&mut self, outcome: &mut Outcome, id: &str, kind: i32, by: User) -> i64 {
        let to = self.members(id);
        self.tell_group(outcome, id, (kind, true, false), by, &to)
    }

    /// As [`tell_all`](Self::tell_all), but not in the chat if it is `quiet`.
    fn tell_most(&mut self, outcome: &mut Outcome, id: &str, kind: i32, by: User, quiet: bool) {
        let to = self.members(id);
        self.tell_group(outcome, id, (kind, !quiet, false), by, &to);
    }

    fn enter(&mut self, id: &str, user: User) {
        let step = self.step;
        if let Some(group) = self.groups.get_mut(id) {
            group.enter(user, Role::Ordinary, step);
        }
        self.open(id, user);
    }

    fn leave(
        &mut self,
        outcome: &mut Outcome,
        id: &str,
        user: User,
        (kind, quiet): (i32, bool),
        by: User,
    ) {
        let mut joined = 0;
        if let Some(group) = self.groups.get_mut(id)
            && let Some(member) = group.members.remove(&user)
        {
            joined = member.joined;
            group.silent.extend(member.muted_until.map(|until| (user, until)));
        }
        let mut to = self.members(id);
        to.push(user);
        let seq = self.tell_group(outcome, id, (kind, !quiet, false), by, &to);
        let end = if quiet { self.newest(&group_id(id)) } else { seq };
        self.close(id, user, joined, end);
        self.tell_changed(outcome, user);
    }

    fn tell_application(&self, outcome: &mut Outcome, group: &Group, from: User) {
        let mut told = group.managers();
        if !told.contains(&from) {
            told.push(from);
        }
        for user in told {
            self.tell(outcome, APPLICATION, from, user);
        }
    }

    /// `quiet`: the chat does not say it.
    pub(super) fn invite(&mut self, by: User, id: &str, user: User, quiet: bool) -> Outcome {
        let Some(group) = self.groups.get(id).cloned() else { return Outcome::refused(NOT_FOUND) };
        if group.dismissed {
            return Outcome::refused(DISMISSED);
        }
        if group.role(by).is_none() {
            return Outcome::refused(DENIED);
        }
        if group.role(user).is_some() {
            return Outcome::refused(FAILED);
        }
        let mut outcome = Outcome::default();
        if group.admission == ALL_NEED_APPROVAL && !group.manages(by) {
            self.note_request(id, user, Request::Waiting, Some(by));
            self.tell_application(&mut outcome, &group, by);
            return outcome;
        }
        self.enter(id, user);
        self.tell_most(&mut outcome, id, INVITED, by, quiet);
        self.tell_changed(&mut outcome, user);
        outcome
    }

    fn note_request(&mut self, id: &str, user: User, request: Request, inviter: Option<User>) {
        if let Some(group) = self.groups.get_mut(id) {
            group.requests.insert(user, (request, inviter));
        }
    }

    pub(super) fn join(&mut self, id: &str, user: User) -> Outcome {
        let Some(group) = self.groups.get(id).cloned() else { return Outcome::refused(NOT_FOUND) };
        if group.dismissed {
            return Outcome::refused(DISMISSED);
        }
        if group.role(user).is_some() {
            return Outcome::refused(ARGS);
        }
        let mut outcome = Outcome::default();
        if group.admission == OPEN {
            self.enter(id, user);
            self.tell_all(&mut outcome, id, ENTERED, user);
            self.tell_changed(&mut outcome, user);
            return outcome;
        }
        self.note_request(id, user, Request::Waiting, None);
        self.tell_application(&mut outcome, &group, user);
        outcome
    }

    pub(super) fn answer_join(&mut self, by: User, id: &str, user: User, agree: bool) -> Outcome {
        let Some(group) = self.groups.get(id).cloned() else { return Outcome::refused(NOT_FOUND) };
        match group.role(by) {
            None => return Outcome::refused(NOT_FOUND),
            Some(Role::Ordinary) => return Outcome::refused(DENIED),
            Some(_) => {}
        }
        let inviter = match group.requests.get(&user) {
            None => return Outcome::refused(NOT_FOUND),
            Some((Request::Handled, _)) => return Outcome::refused(HANDLED),
            Some((Request::Waiting, inviter)) => *inviter,
        };
        self.note_request(id, user, Request::Handled, inviter);
        let enters = agree && group.role(user).is_none();
        let mut told = group.managers();
        if enters {
            self.enter(id, user);
        }
        told.retain(|manager| *manager != user);
        told.push(user);
        let mut outcome = Outcome::default();
        for to in told {
            self.tell(&mut outcome, if agree { ACCEPTED } else { REJECTED }, by, to);
        }
        if enters {
            let kind = if inviter.is_some() { INVITED } else { ENTERED };
            self.tell_all(&mut outcome, id, kind, by);
            self.tell_changed(&mut outcome, user);
        }
        outcome
    }

    /// `quiet`: the chat does not say it.
    pub(super) fn kick(&mut self, by: User, id: &str, user: User, quiet: bool) -> Outcome {
        let Some(group) = self.groups.get(id).cloned() else { return Outcome::refused(NOT_FOUND) };
        if by == user || group.role(user) == Some(Role::Owner) {
            return Outcome::refused(ARGS);
        }
        if group.role(user).is_none() {
            return Outcome::refused(USER_NOT_FOUND);
        }
        if !group.outranks(by, user) {
            return Outcome::refused(DENIED);
        }
        let mut outcome = Outcome::default();
        self.leave(&mut outcome, id, user, (KICKED, quiet), by);
        outcome
    }

    pub(super) fn quit(&mut self, id: &str, user: User) -> Outcome {
        match self.groups.get(id).and_then(|group| group.role(user)) {
            None => return Outcome::refused(NOT_FOUND),
            Some(Role::Owner) => return Outcome::refused(DENIED),
            Some(_) => {}
        }
        let mut outcome = Outcome::default();
        self.leave(&mut outcome, id, user, (QUIT, false), user);
        outcome
    }

    pub(super) fn transfer(&mut self, by: User, id: &str, to: User) -> Outcome {
        let Some(group) = self.groups.get(id).cloned() else { return Outcome::refused(NOT_FOUND) };
        if group.dismissed {
            return Outcome::refused(DISMISSED);
        }
        let (Some(old), Some(new)) = (group.members.get(&by), group.members.get(&to)) else {
            return Outcome::refused(ARGS);
        };
        if by == to {
            return Outcome::refused(ARGS);
        }
        if old.role != Role::Owner {
            return Outcome::refused(DENIED);
        }
        let mut outcome = Outcome::default();
        let silent = new.muted_until.is_some_and(|until| until > self.now);
        if silent {
            self.set_muted(id, to, None);
            self.tell_all(&mut outcome, id, MEMBER_UNMUTED, by);
        }
        self.set_role(id, by, new.role);
        self.set_role(id, to, Role::Owner);
        self.tell_all(&mut outcome, id, TRANSFERRED, by);
        outcome
    }

    fn set_role(&mut self, id: &str, user: User, role: Role) {
        if let Some(member) = self.groups.get_mut(id).and_then(|g| g.members.get_mut(&user)) {
            member.role = role;
        }
    }

    fn set_muted(&mut self, id: &str, user: User, until: Option<i64>) {
        if let Some(member) = self.groups.get_mut(id).and_then(|g| g.members.get_mut(&user)) {
            member.muted_until = until;
        }
    }

    /// `quiet`: nobody is told.
    pub(super) fn dismiss(&mut self, by: User, id: &str, quiet: bool) -> Outcome {
        let Some(group) = self.groups.get(id) else { return Outcome::refused(NOT_FOUND) };
        if group.dismissed {
            // Nobody owns it any more.
            return Outcome::refused(NOT_FOUND);
        }
        if group.role(by) != Some(Role::Owner) {
            return Outcome::refused(DENIED);
        }
        let members = self.members(id);
        let end = self.newest(&group_id(id)) + i64::from(!quiet);
        for user in &members {
            let joined = self.groups.get(id).and_then(|group| group.members.get(user));
            let joined = joined.map_or(0, |member| member.joined);
            self.close(id, *user, joined, end);
        }
        if let Some(group) = self.groups.get_mut(id) {
            group.dismissed = true;
            group.members.clear();
        }
        let mut outcome = Outcome::default();
        if !quiet {
            let how = (DISMISSED_KIND, true, false);
            self.tell_group(&mut outcome, id, how, by, &members);
        }
        outcome
    }

    pub(super) fn rank(&mut self, by: User, id: &str, user: User, admin: bool) -> Outcome {
        let Some(group) = self.groups.get(id).cloned() else { return Outcome::refused(NOT_FOUND) };
        let wanted = if admin { Role::Admin } else { Role::Ordinary };
        let Some(own) = group.role(by) else { return Outcome::refused(DENIED) };
        let Some(role) = group.role(user) else { return Outcome::refused(ARGS) };
        let may = if by == user { wanted <= own } else { group.outranks(by, user) };
        if !may {
            return Outcome::refused(DENIED);
        }
        if role == Role::Owner {
            return Outcome::refused(ARGS);
        }
        self.set_role(id, user, wanted);
        let kind = if admin { MADE_ADMIN } else { MADE_ORDINARY };
        let to = self.members(id);
        let mut outcome = Outcome::default();
        self.tell_group(&mut outcome, id, (kind, false, false), by, &to);
        outcome
    }

    /// `seconds` of silence for a member; `None` ends it.
    pub(super) fn mute_member(
        &mut self,
        by: User,
        id: &str,
        user: User,
        seconds: Option<u32>,
    ) -> Outcome {
        let Some(group) = self.groups.get(id).cloned() else { return Outcome::refused(NOT_FOUND) };
        match group.role(user) {
            None => return Outcome::refused(NOT_FOUND),
            Some(Role::Owner) => return Outcome::refused(DENIED),
            Some(_) if group.role(by).is_none() => return Outcome::refused(NOT_FOUND),
            Some(_) if !group.outranks(by, user) => return Outcome::refused(DENIED),
            Some(_) => {}
        }
        let until = seconds.map(|seconds| self.now + i64::from(seconds) * 1_000);
        self.set_muted(id, user, until);
        let mut outcome = Outcome::default();
        let kind = if until.is_some() { MEMBER_MUTED } else { MEMBER_UNMUTED };
        self.tell_all(&mut outcome, id, kind, by);
        outcome
    }

    pub(super) fn mute_group(&mut self, by: User, id: &str, on: bool) -> Outcome {
        let manages = self.groups.get(id).is_some_and(|group| group.manages(by));
        if !manages {
            return Outcome::refused(DENIED);
        }
        if let Some(group) = self.groups.get_mut(id) {
            group.muted = on;
        }
        let mut outcome = Outcome::default();
        self.tell_all(&mut outcome, id, if on { MUTED } else { UNMUTED }, by);
        outcome
    }
}
