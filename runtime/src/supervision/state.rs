//! The supervisor's policy: which child runs, which is made anew, when it is enough.
//!
//! ```text
//!   Down ──► Starting ──► Running ──► Draining ──► Done
//!     ▲          │ exit      │ exit       (asked to end, or for good)
//!     │          ▼           ▼
//!     └──── Waiting (back-off)        Killing ──► Down   (falls with a sibling)
//! ```
//!
//! Two queues give the order (SUP-4): `down` empties from the last rank, then `up` from the first.
//! No clock and no random here: `now` is the time since the supervisor started, and whoever carries
//! the effects out shortens a back-off by its own seeded jitter.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::policy::{Backoff, Exit, Intensity, Restart, Strategy};

/// A child, in the order in which children were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChildId(pub(crate) u64);

/// One attempt to run a child; no two runs of a supervisor have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run(pub(crate) u64);

/// What the policy wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make a new incarnation.
    Start(ChildId, Run),
    /// Ask it to finish what is in.
    Drain(ChildId, Run),
    /// End it well.
    Finish(ChildId),
    /// End it at its next turn, without ceremony; what it says afterwards is stale.
    Kill(ChildId),
    /// It will not come back: close its mailbox.
    Close(ChildId, Exit),
    /// Call [`Core::on_timer`] then.
    WakeAfter(Timer, Duration),
    /// Call [`Core::on_timer`] after a part of this, between half and all of it.
    WakeBackedOff(Timer, Duration),
    /// It runs for the first time.
    Started(ChildId),
    /// All children of the spec have started.
    Up,
    /// The supervisor itself is at its end.
    Ended(Exit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    Backoff(ChildId, Run),
    GroupBackoff(u64),
    Deadline(ChildId, Run),
}

/// What a supervisor needs to know of a child.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: Arc<str>,
    pub(crate) restart: Restart,
    pub(crate) stop_within: Duration,
}

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Down,
    Waiting,
    Starting,
    Running,
    Draining,
    Killing,
    Done,
}

#[derive(Debug)]
pub(crate) struct Child {
    policy: Policy,
    run: Run,
    failures: u32,
    running_since: Duration,
    has_run: bool,
    /// It leaves for good.
    removed: bool,
    pub(crate) state: State,
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<Exit>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Up,
    /// Ends with this once no child is left. A failure leaves mailboxes open: the parent may make
    /// this supervisor anew, and its children behind the same addresses.
    Ending(Exit),
    Ended,
}

#[derive(Debug)]
pub(crate) struct Core {
    strategy: Strategy,
    intensity: Intensity,
    backoff: Backoff,
    /// Boxed: a map keeps room for nearly twice what is in it.
    children: BTreeMap<ChildId, Box<Child>>,
    next_child: u64,
    next_run: u64,
    /// Children from here on were added later, and are one rank.
    added_from: Option<ChildId>,
    restarted_at: VecDeque<Duration>,
    phase: Phase,
    announced: bool,
    /// To be ended in reverse, before anything of `up` starts.
    down: BTreeSet<ChildId>,
    /// Asked to end, of `down`.
    leaving: BTreeSet<ChildId>,
    /// To be started in order.
    up: BTreeSet<ChildId>,
    /// Started, of `up`, and not there yet.
    arriving: BTreeSet<ChildId>,
    /// The back-off of a group that falls and rises together.
    pause: Option<u64>,
    effects: Vec<Effect>,
}

type Effects = Vec<Effect>;

impl Core {
    pub(crate) fn new(strategy: Strategy, intensity: Intensity, backoff: Backoff) -> Self {
        Self {
            strategy,
            intensity,
            backoff,
            children: BTreeMap::new(),
            next_child: 0,
            next_run: 0,
            added_from: None,
            restarted_at: VecDeque::new(),
            phase: Phase::Up,
            announced: false,
            down: BTreeSet::new(),
            leaving: BTreeSet::new(),
            up: BTreeSet::new(),
            arriving: BTreeSet::new(),
            pause: None,
            effects: Vec::new(),
        }
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = (ChildId, &Child)> {
        self.children.iter().map(|(id, child)| (*id, &**child))
    }

    pub(crate) fn child(&self, id: ChildId) -> Option<&Child> {
        self.children.get(&id).map(Box::as_ref)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Adds a child of the spec; [`Core::start`] starts it.
    pub(crate) fn add(&mut self, policy: Policy) -> ChildId {
        let id = ChildId(self.next_child);
        self.next_child += 1;
        self.children.insert(
            id,
            Box::new(Child {
                policy,
                run: Run::default(),
                failures: 0,
                running_since: Duration::ZERO,
                has_run: false,
                removed: false,
                state: State::Down,
                restarts: 0,
                last_exit: None,
            }),
        );
        self.up.insert(id);
        id
    }

    pub(crate) fn start(&mut self) -> Effects {
        self.added_from = Some(ChildId(self.next_child));
        self.advance()
    }

    /// Adds a child to a supervisor that runs, and starts it at once. One that does not get as far
    /// as to run once is not kept.
    pub(crate) fn start_child(&mut self, policy: Policy) -> (ChildId, Effects) {
        assert!(self.is_up(), "a supervisor that ends takes no child");
        let id = self.add(policy);
        self.up.remove(&id);
        self.begin(id);
        (id, std::mem::take(&mut self.effects))
    }

    /// Drains and ends a child for good.
    pub(crate) fn stop_child(&mut self, id: ChildId) -> Effects {
        self.remove(id);
        if self.down.remove(&id) {
            self.ask_to_end(id);
        }
        self.advance()
    }

    /// Forgets a child that is [`State::Done`].
    pub(crate) fn forget(&mut self, id: ChildId) {
        self.children.remove(&id);
    }

    /// Ends all children, in reverse, then itself.
    pub(crate) fn stop(&mut self) -> Effects {
        if self.is_up() {
            self.end_all(Exit::Normal);
        }
        self.advance()
    }

    pub(crate) fn on_started(&mut self, id: ChildId, run: Run, now: Duration) -> Effects {
        let Some(child) = self.newest(id, run) else { return Vec::new() };
        if child.state == State::Starting {
            child.state = State::Running;
            child.running_since = now;
            let first = !std::mem::replace(&mut child.has_run, true);
            self.arriving.remove(&id);
            if first {
                self.effects.push(Effect::Started(id));
            }
        }
        self.advance()
    }

    pub(crate) fn on_drained(&mut self, id: ChildId, run: Run) -> Effects {
        if let Some(State::Draining) = self.newest(id, run).map(|child| child.state) {
            self.effects.push(Effect::Finish(id));
        }
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn on_exited(
        &mut self,
        id: ChildId,
        run: Run,
        exit: Exit,
        now: Duration,
    ) -> Effects {
        let Some(child) = self.newest(id, run) else { return Vec::new() };
        match child.state {
            State::Draining | State::Killing => self.left_as_asked(id, exit),
            State::Starting | State::Running => self.left_by_itself(id, exit, now),
            State::Down | State::Waiting | State::Done => {}
        }
        self.advance()
    }

    pub(crate) fn on_timer(&mut self, timer: Timer) -> Effects {
        match timer {
            Timer::GroupBackoff(token) if self.pause == Some(token) => self.pause = None,
            Timer::Backoff(id, run) => {
                if let Some(State::Waiting) = self.newest(id, run).map(|child| child.state) {
                    self.begin(id);
                }
            }
            Timer::Deadline(id, run) => {
                let state = self.newest(id, run).map(|child| child.state);
                if let Some(State::Draining | State::Killing) = state {
                    self.effects.push(Effect::Kill(id));
                    self.left_as_asked(id, Exit::Killed);
                }
            }
            Timer::GroupBackoff(_) => {}
        }
        self.advance()
    }

    /// An arbiter is gone, and these children with it. Their move is free, except that of whoever
    /// took it down: `culprit`, or somebody unknown among them.
    pub(crate) fn on_arbiter_lost(
        &mut self,
        lost: &[ChildId],
        culprit: Option<ChildId>,
        charged: bool,
        now: Duration,
    ) -> Effects {
        let mut fallen = Vec::new();
        for id in lost {
            let state = self.children.get(id).map(|child| child.state);
            match state {
                Some(State::Draining | State::Killing) => self.left_as_asked(*id, Exit::Killed),
                Some(State::Starting | State::Running) => {
                    self.effects.push(Effect::Kill(*id));
                    let again = self.mark_gone(*id, Exit::Killed)
                        && self.children[id].policy.restart != Restart::Temporary;
                    if again { fallen.push(*id) } else { self.close(*id) }
                }
                _ => {}
            }
        }
        let Some(first) = fallen.first().copied() else { return self.advance() };
        if charged && !self.charge(now) {
            self.escalate(culprit.unwrap_or(first), &Exit::Killed);
            return self.advance();
        }
        for id in &fallen {
            self.count_restart(*id, now);
        }
        match self.strategy {
            Strategy::OneForOne => {
                for id in fallen {
                    if culprit == Some(id) { self.back_off(id) } else { self.begin(id) }
                }
            }
            Strategy::OneForAll | Strategy::RestForOne => {
                self.restart_group(first, if charged { culprit.or(Some(first)) } else { None });
            }
        }
        self.advance()
    }

    // ---- Inside --------------------------------------------------------------------------------

    /// The child, where `run` is its newest run (SUP-6).
    fn newest(&mut self, id: ChildId, run: Run) -> Option<&mut Child> {
        self.children.get_mut(&id).map(Box::as_mut).filter(|child| child.run == run)
    }

    fn get(&mut self, id: ChildId) -> &mut Child {
        self.children.get_mut(&id).expect("ids in the queues are those of children")
    }

    fn rank(&self, id: ChildId) -> ChildId {
        self.added_from.map_or(id, |added| id.min(added))
    }

    fn run_of_its_own(&mut self) -> Run {
        self.next_run += 1;
        Run(self.next_run)
    }

    fn begin(&mut self, id: ChildId) {
        let run = self.run_of_its_own();
        let child = self.get(id);
        assert!(
            matches!(child.state, State::Down | State::Waiting),
            "SUP-1: only a child that does not run is started"
        );
        child.state = State::Starting;
        child.run = run;
        self.effects.push(Effect::Start(id, run));
    }

    /// Its run is over: reports of it are stale from here on (SUP-6). False where it left for good.
    fn mark_gone(&mut self, id: ChildId, exit: Exit) -> bool {
        let run = self.run_of_its_own();
        let ending = !self.is_up();
        let child = self.get(id);
        child.run = run;
        child.state = State::Down;
        child.last_exit = Some(exit);
        let removed = child.removed || ending;
        self.leaving.remove(&id);
        self.down.remove(&id);
        !removed
    }

    fn left_as_asked(&mut self, id: ChildId, exit: Exit) {
        if !self.mark_gone(id, exit) {
            self.close(id);
        }
    }

    fn left_by_itself(&mut self, id: ChildId, exit: Exit, now: Duration) {
        let child = &self.children[&id];
        let added = self.added_from.is_some_and(|added| id >= added);
        let wanted = match child.policy.restart {
            _ if added && !child.has_run => false,
            Restart::Permanent => true,
            Restart::Transient => exit.is_failure(),
            Restart::Temporary => false,
        };
        let again = self.mark_gone(id, exit.clone()) && wanted;
        if !again {
            self.close(id);
        } else if !self.charge(now) {
            self.escalate(id, &exit);
        } else {
            self.count_restart(id, now);
            match self.strategy {
                Strategy::OneForOne => self.back_off(id),
                Strategy::OneForAll | Strategy::RestForOne => self.restart_group(id, Some(id)),
            }
        }
    }

    /// Pays for one restart, if the budget covers it (SUP-3).
    fn charge(&mut self, now: Duration) -> bool {
        let Intensity { restarts_max, period } = self.intensity;
        while self.restarted_at.front().is_some_and(|at| now.saturating_sub(*at) > period) {
            self.restarted_at.pop_front();
        }
        if self.restarted_at.len() >= restarts_max as usize {
            return false;
        }
        self.restarted_at.push_back(now);
        assert!(self.restarted_at.len() <= restarts_max as usize, "SUP-3");
        true
    }

    fn count_restart(&mut self, id: ChildId, now: Duration) {
        let period = self.intensity.period;
        let child = self.get(id);
        let ran = now.saturating_sub(child.running_since);
        let ran_well = child.has_run && ran > period;
        child.failures = if ran_well { 1 } else { child.failures.saturating_add(1) };
        child.restarts += 1;
    }

    fn back_off(&mut self, id: ChildId) {
        let failures = self.children[&id].failures;
        let wait = self.backoff.after(failures);
        let child = self.get(id);
        child.state = State::Waiting;
        let timer = Timer::Backoff(id, child.run);
        self.effects.push(Effect::WakeBackedOff(timer, wait));
    }

    /// `first` fell; it and those that the strategy binds to it are ended and started together,
    /// after the back-off of `charged`, where somebody is.
    fn restart_group(&mut self, first: ChildId, charged: Option<ChildId>) {
        let from = if self.strategy == Strategy::RestForOne { first } else { ChildId(0) };
        let bound: Vec<ChildId> = self.children.range(from..).map(|(id, _)| *id).collect();
        for id in bound {
            self.arriving.remove(&id);
            let child = self.get(id);
            match child.state {
                State::Done => continue,
                State::Starting | State::Running => {
                    // Not asked for again once it fell with a sibling.
                    child.removed |= child.policy.restart == Restart::Temporary;
                    self.down.insert(id);
                }
                State::Waiting => child.state = State::Down,
                State::Down | State::Draining | State::Killing => {}
            }
            if !self.children[&id].removed {
                self.up.insert(id);
            }
        }
        self.pause = None;
        if let Some(id) = charged {
            let wait = self.backoff.after(self.children[&id].failures);
            let Run(token) = self.run_of_its_own();
            self.pause = Some(token);
            self.effects.push(Effect::WakeBackedOff(Timer::GroupBackoff(token), wait));
        }
    }

    /// Failure goes up: siblings are ended, mailboxes stay.
    fn escalate(&mut self, id: ChildId, exit: &Exit) {
        let Intensity { restarts_max, period } = self.intensity;
        let name = &self.children[&id].policy.name;
        self.end_all(Exit::Failed(format!(
            "`{name}` {exit}, after {restarts_max} restarts within {period:?}"
        )));
    }

    fn end_all(&mut self, exit: Exit) {
        self.phase = Phase::Ending(exit);
        self.pause = None;
        let all: Vec<ChildId> = self.children.keys().copied().collect();
        for id in all {
            self.remove(id);
        }
    }

    /// Marks a child as one that leaves for good; `advance` asks it to end in its turn.
    fn remove(&mut self, id: ChildId) {
        self.up.remove(&id);
        self.arriving.remove(&id);
        let child = self.get(id);
        child.removed = true;
        match child.state {
            State::Down | State::Waiting => self.close(id),
            State::Starting | State::Running => {
                self.down.insert(id);
            }
            State::Draining | State::Killing | State::Done => {}
        }
    }

    fn close(&mut self, id: ChildId) {
        self.up.remove(&id);
        self.arriving.remove(&id);
        let keep_mailbox = matches!(self.phase, Phase::Ending(ref exit) if exit.is_failure());
        let child = self.get(id);
        child.state = State::Done;
        let exit = child.last_exit.clone().unwrap_or(Exit::Normal);
        if !keep_mailbox {
            self.effects.push(Effect::Close(id, exit));
        }
    }

    fn ask_to_end(&mut self, id: ChildId) {
        let failing = matches!(self.phase, Phase::Ending(ref exit) if exit.is_failure());
        let child = self.get(id);
        let (run, within) = (child.run, child.policy.stop_within);
        let drain = child.removed && child.state == State::Running && !failing;
        child.state = if drain { State::Draining } else { State::Killing };
        self.leaving.insert(id);
        self.effects.push(if drain { Effect::Drain(id, run) } else { Effect::Kill(id) });
        self.effects.push(Effect::WakeAfter(Timer::Deadline(id, run), within));
    }

    /// Goes on with what has an order: ends the last rank of `down`, else starts the first of `up`.
    fn advance(&mut self) -> Effects {
        if self.leaving.is_empty() {
            if let Some(last) = self.down.last().copied() {
                let rank = self.down.split_off(&self.rank(last));
                rank.into_iter().for_each(|id| self.ask_to_end(id));
            } else if let Phase::Ending(exit) = &self.phase {
                assert!(
                    self.children.values().all(|child| child.state == State::Done),
                    "SUP-4: the supervisor leaves after its last child"
                );
                self.effects.push(Effect::Ended(exit.clone()));
                self.phase = Phase::Ended;
            } else if self.pause.is_none() && self.arriving.is_empty() && self.is_up() {
                self.start_next_rank();
            }
        }
        std::mem::take(&mut self.effects)
    }

    fn start_next_rank(&mut self) {
        if let Some(first) = self.up.first().copied() {
            let rank = self.rank(first);
            let end = if self.added_from == Some(rank) { u64::MAX } else { first.0 + 1 };
            let later = self.up.split_off(&ChildId(end));
            for id in std::mem::replace(&mut self.up, later) {
                self.arriving.insert(id);
                self.begin(id);
            }
        } else if self.added_from.is_some() && !std::mem::replace(&mut self.announced, true) {
            self.effects.push(Effect::Up);
        }
    }
}

#[cfg(test)]
mod tests;
