//! The policy alone: every strategy by example, and any run of events by property.

use std::time::Duration;

use proptest::{
    prelude::{Just, any, prop_assert, prop_oneof, proptest},
    strategy::Strategy as Any,
};

use super::*;

const STOP_WITHIN: Duration = Duration::from_secs(7);

/// Carries effects out at once, in a world where what is started starts and what is asked to end
/// ends, unless told otherwise; and keeps what was seen.
struct World {
    core: Core,
    now: Duration,
    seen: Vec<String>,
    running: BTreeMap<ChildId, Run>,
    timers: Vec<(Duration, Timer)>,
    /// These do not answer.
    stuck: BTreeSet<ChildId>,
    ended: Option<Exit>,
}

impl World {
    fn new(strategy: Strategy, restarts_max: u32, children: &[Restart]) -> World {
        let intensity = Intensity { restarts_max, period: Duration::from_secs(60) };
        let mut core = Core::new(strategy, intensity, Backoff::default());
        for (nth, restart) in children.iter().enumerate() {
            core.add(policy(nth as u64, *restart));
        }
        let mut world = World {
            core,
            now: Duration::ZERO,
            seen: Vec::new(),
            running: BTreeMap::new(),
            timers: Vec::new(),
            stuck: BTreeSet::new(),
            ended: None,
        };
        let effects = world.core.start();
        world.carry_out(effects);
        world
    }

    fn permanent(strategy: Strategy, children: usize) -> World {
        World::new(strategy, 5, &vec![Restart::Permanent; children])
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let more = match effect {
                Effect::Start(id, run) => {
                    self.seen.push(format!("start {}", id.0));
                    let before = self.running.insert(id, run);
                    assert!(before.is_none(), "SUP-1: child {} ran already", id.0);
                    if self.stuck.contains(&id) {
                        continue;
                    }
                    self.core.on_started(id, run, self.now)
                }
                Effect::Drain(id, run) => {
                    self.seen.push(format!("drain {}", id.0));
                    if self.stuck.contains(&id) {
                        continue;
                    }
                    self.core.on_drained(id, run)
                }
                Effect::Finish(id) => self.leaves(id, Exit::Normal),
                Effect::Kill(id) if self.stuck.contains(&id) => {
                    // What it does from now on is stale.
                    self.seen.push(format!("kill {}", id.0));
                    continue;
                }
                Effect::Kill(id) => {
                    self.seen.push(format!("kill {}", id.0));
                    self.leaves(id, Exit::Killed)
                }
                Effect::Close(id, _) => {
                    self.seen.push(format!("close {}", id.0));
                    continue;
                }
                Effect::WakeAfter(timer, after) | Effect::WakeBackedOff(timer, after) => {
                    self.timers.push((self.now + after, timer));
                    continue;
                }
                Effect::Started(_) => continue,
                Effect::Up => {
                    self.seen.push("up".into());
                    continue;
                }
                Effect::Ended(exit) => {
                    assert!(self.ended.replace(exit).is_none(), "it ends once");
                    continue;
                }
            };
            self.carry_out(more);
        }
    }

    fn leaves(&mut self, id: ChildId, exit: Exit) -> Vec<Effect> {
        match self.running.remove(&id) {
            Some(run) => self.core.on_exited(id, run, exit, self.now),
            None => Vec::new(),
        }
    }

    fn crash(&mut self, id: u64) {
        let effects = self.leaves(ChildId(id), Exit::Panicked("oh".into()));
        self.carry_out(effects);
    }

    fn lose(&mut self, lost: &[ChildId], culprit: Option<ChildId>, charged: bool) {
        for id in lost {
            self.running.remove(id);
        }
        let effects = self.core.on_arbiter_lost(lost, culprit, charged, self.now);
        self.carry_out(effects);
    }

    /// Lets the next timer elapse; a stuck child's run counts as over once its deadline passed.
    fn tick(&mut self) -> bool {
        let Some(next) = (0..self.timers.len()).min_by_key(|at| self.timers[*at].0) else {
            return false;
        };
        let (at, timer) = self.timers.remove(next);
        self.now = self.now.max(at);
        if let Timer::Deadline(id, run) = timer
            && self.running.get(&id) == Some(&run)
        {
            self.running.remove(&id);
        }
        let effects = self.core.on_timer(timer);
        self.carry_out(effects);
        true
    }

    fn settle(&mut self) {
        while self.tick() {}
    }

    /// It answers again: where it was about to start, it has started.
    fn loosen(&mut self, id: ChildId) {
        self.stuck.remove(&id);
        if let Some(run) = self.running.get(&id).copied() {
            let effects = self.core.on_started(id, run, self.now);
            self.carry_out(effects);
        }
    }

    fn seen(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    fn states(&self) -> Vec<State> {
        self.core.children().map(|(_, child)| child.state).collect()
    }
}

fn policy(nth: u64, restart: Restart) -> Policy {
    Policy { name: format!("c{nth}").into(), restart, stop_within: STOP_WITHIN }
}

#[test]
fn children_start_in_order_each_after_the_one_before_has_started() {
    let mut world = World::new(Strategy::OneForOne, 5, &[]);
    assert_eq!(world.seen(), ["up"]);
    let mut core = Core::new(Strategy::OneForOne, Intensity::default(), Backoff::default());
    for nth in 0..2 {
        core.add(policy(nth, Restart::Permanent));
    }
    assert_eq!(core.start(), [Effect::Start(ChildId(0), Run(1))]);
    assert_eq!(
        core.on_started(ChildId(0), Run(1), Duration::ZERO),
        [Effect::Started(ChildId(0)), Effect::Start(ChildId(1), Run(2))]
    );
    assert_eq!(
        core.on_started(ChildId(1), Run(2), Duration::ZERO),
        [Effect::Started(ChildId(1)), Effect::Up]
    );
}

#[test]
fn stop_drains_in_reverse_and_one_that_does_not_answer_is_killed_at_its_deadline() {
    let mut world = World::permanent(Strategy::OneForOne, 3);
    world.seen();
    world.stuck.insert(ChildId(1));
    let effects = world.core.stop();
    world.carry_out(effects);
    assert_eq!(world.seen(), ["drain 2", "close 2", "drain 1"], "SUP-4");
    while world.states()[1] != State::Done {
        assert!(world.tick());
    }
    assert_eq!(world.now, STOP_WITHIN);
    assert_eq!(world.seen(), ["kill 1", "close 1", "drain 0", "close 0"]);
    assert_eq!(world.ended, Some(Exit::Normal));
}

#[test]
fn children_that_were_added_stop_together_before_those_of_the_spec() {
    let mut world = World::permanent(Strategy::OneForOne, 1);
    for nth in 1..4 {
        let (_, effects) = world.core.start_child(policy(nth, Restart::Permanent));
        world.carry_out(effects);
    }
    world.seen();
    world.stuck.insert(ChildId(2));
    let effects = world.core.stop();
    world.carry_out(effects);
    assert_eq!(world.seen(), ["drain 1", "close 1", "drain 2", "drain 3", "close 3"]);
    world.settle();
    assert_eq!(world.seen(), ["kill 2", "close 2", "drain 0", "close 0"]);
}

#[test]
fn one_for_one_restarts_only_the_one_that_fell() {
    let mut world = World::permanent(Strategy::OneForOne, 3);
    world.seen();
    world.crash(1);
    assert_eq!(world.states(), [State::Running, State::Waiting, State::Running]);
    world.settle();
    assert_eq!(world.seen(), ["start 1"]);
}

#[test]
fn one_for_all_ends_the_others_in_reverse_and_starts_all_in_order() {
    let mut world = World::permanent(Strategy::OneForAll, 3);
    world.seen();
    world.crash(1);
    world.settle();
    assert_eq!(world.seen(), ["kill 2", "kill 0", "start 0", "start 1", "start 2"]);
}

#[test]
fn rest_for_one_leaves_those_before_it_alone() {
    let mut world = World::permanent(Strategy::RestForOne, 4);
    world.seen();
    world.crash(1);
    world.settle();
    assert_eq!(world.seen(), ["kill 3", "kill 2", "start 1", "start 2", "start 3"]);
}

#[test]
fn a_sibling_that_falls_while_its_group_restarts_falls_into_the_same_group() {
    let mut world = World::permanent(Strategy::RestForOne, 3);
    world.stuck.insert(ChildId(2));
    world.crash(1);
    world.seen();
    world.crash(0);
    world.settle();
    assert_eq!(world.seen(), ["kill 2", "start 0", "start 1", "start 2"]);
}

#[test]
fn restart_policy_decides_who_comes_back() {
    let all = [Restart::Permanent, Restart::Transient, Restart::Temporary];
    let mut failed = World::new(Strategy::OneForOne, 5, &all);
    (0..3).for_each(|id| failed.crash(id));
    failed.settle();
    assert_eq!(failed.states(), [State::Running, State::Running, State::Done]);
    let mut ended = World::new(Strategy::OneForOne, 5, &all);
    for id in 0..3 {
        let effects = ended.leaves(ChildId(id), Exit::Normal);
        ended.carry_out(effects);
    }
    ended.settle();
    assert_eq!(ended.states(), [State::Running, State::Done, State::Done]);
}

#[test]
fn over_budget_the_supervisor_fails_and_leaves_the_mailboxes_open() {
    let mut world = World::new(Strategy::OneForOne, 2, &[Restart::Permanent; 2]);
    for _ in 0..2 {
        world.crash(0);
        world.settle();
    }
    world.seen();
    world.crash(0);
    assert_eq!(world.seen(), ["kill 1"], "SUP-3: and nobody is closed");
    let Some(Exit::Failed(why)) = &world.ended else { panic!("{:?}", world.ended) };
    assert!(why.contains("`c0` panicked: oh"), "{why}");
}

#[test]
fn restarts_that_are_far_apart_cost_nothing_and_start_the_back_off_anew() {
    let mut world = World::new(Strategy::OneForOne, 1, &[Restart::Permanent]);
    for _ in 0..5 {
        world.now += Duration::from_secs(61);
        world.crash(0);
        let (at, _) = world.timers[0];
        assert_eq!(at - world.now, Backoff::default().first);
        world.settle();
    }
    assert_eq!(world.ended, None);
}

#[test]
fn a_report_of_an_older_run_changes_nothing() {
    let mut world = World::permanent(Strategy::OneForAll, 2);
    let old = world.running[&ChildId(0)];
    world.crash(0);
    world.settle();
    let before = world.states();
    assert_eq!(world.core.on_exited(ChildId(0), old, Exit::Killed, world.now), [], "SUP-6");
    assert_eq!(world.states(), before);
}

#[test]
fn a_child_added_that_does_not_start_is_not_kept() {
    let mut world = World::new(Strategy::OneForAll, 5, &[Restart::Permanent]);
    let (id, effects) = world.core.start_child(policy(1, Restart::Permanent));
    world.stuck.insert(id);
    world.carry_out(effects);
    world.seen();
    world.crash(1);
    assert_eq!(world.seen(), ["close 1"]);
    assert_eq!(world.states(), [State::Running, State::Done]);
}

#[test]
fn a_move_is_free_for_neighbours_and_paid_by_whoever_wedged() {
    let mut world = World::new(Strategy::OneForOne, 1, &[Restart::Permanent; 3]);
    world.seen();
    let lost = [ChildId(0), ChildId(2)];
    for culprit in [None, Some(ChildId(2))] {
        world.lose(&lost, culprit, culprit.is_some());
        world.settle();
        assert_eq!(world.seen(), ["kill 0", "kill 2", "start 0", "start 2"]);
    }
    world.lose(&lost, Some(ChildId(2)), true);
    assert!(world.ended.is_some_and(|exit| exit.is_failure()), "the second wedge is over budget");
}

#[derive(Clone, Debug)]
enum Step {
    Crash(u64),
    EndWell(u64),
    Stick(u64),
    Loosen(u64),
    Lose(Vec<u64>, bool),
    Add(Restart),
    StopChild(u64),
    Tick,
}

fn restarts() -> impl Any<Value = Restart> {
    prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)]
}

fn steps() -> impl Any<Value = Step> {
    prop_oneof![
        3 => (0..6_u64).prop_map(Step::Crash),
        1 => (0..6_u64).prop_map(Step::EndWell),
        1 => (0..6_u64).prop_map(Step::Stick),
        1 => (0..6_u64).prop_map(Step::Loosen),
        1 => (proptest::collection::vec(0..6_u64, 1..4), any::<bool>())
            .prop_map(|(lost, charged)| Step::Lose(lost, charged)),
        1 => restarts().prop_map(Step::Add),
        1 => (0..6_u64).prop_map(Step::StopChild),
        3 => Just(Step::Tick),
    ]
}

proptest! {
    /// Whatever happens, no child runs twice at once (asserted where one starts), a supervisor that
    /// is left alone has all its children up that should be, and one that is stopped ends.
    #[test]
    fn a_supervisor_always_settles_and_always_ends(
        strategy in prop_oneof![
            Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)
        ],
        children in proptest::collection::vec(restarts(), 0..4),
        steps in proptest::collection::vec(steps(), 0..40),
    ) {
        let mut world = World::new(strategy, 8, &children);
        for step in steps {
            if !world.core.is_up() {
                break;
            }
            match step {
                Step::Crash(id) => world.crash(id),
                Step::EndWell(id) => {
                    let effects = world.leaves(ChildId(id), Exit::Normal);
                    world.carry_out(effects);
                }
                Step::Stick(id) => drop(world.stuck.insert(ChildId(id))),
                Step::Loosen(id) => world.loosen(ChildId(id)),
                Step::Lose(mut lost, charged) => {
                    lost.sort_unstable();
                    lost.dedup();
                    let lost: Vec<_> = lost.into_iter().map(ChildId).collect();
                    world.lose(&lost, charged.then(|| lost[0]), charged);
                }
                Step::Add(restart) => {
                    let (_, effects) = world.core.start_child(policy(9, restart));
                    world.carry_out(effects);
                }
                Step::StopChild(id) => {
                    if world.core.child(ChildId(id)).is_some_and(|c| c.state != State::Done) {
                        let effects = world.core.stop_child(ChildId(id));
                        world.carry_out(effects);
                    }
                }
                Step::Tick => drop(world.tick()),
            }
        }
        world.settle();
        // Those that hang in their start get on with it.
        while let Some(id) = world.stuck.first().copied() {
            world.loosen(id);
            world.settle();
        }
        if world.core.is_up() {
            for state in world.states() {
                prop_assert!(matches!(state, State::Running | State::Done), "{state:?}");
            }
            let effects = world.core.stop();
            world.carry_out(effects);
            world.settle();
        }
        prop_assert!(world.ended.is_some());
        prop_assert!(world.running.is_empty());
    }
}
