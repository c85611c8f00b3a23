use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::machine::{Condition, Machine, Ticket};
use super::*;
use crate::config;

/// Three failures, 10 s, 20 s, 40 s, 45 s, 45 s …
const SETTINGS: config::Breaker = config::Breaker {
    failures: 3,
    cooldown: Duration::from_secs(10),
    cooldown_max: Duration::from_secs(45),
    backoff_multiplier: 2.0,
};

/// Plays a script and says what a breaker is like at the end: `closed 2`, `open 10`, `half_open 0`.
///
/// `f` and `s` ask and fail or succeed; `a` asks and keeps the leave; `F`, `S`, `D` end the oldest leave that is kept by
/// failure, success or without a word; `r5` is refused for five seconds, `R` without saying how long; `h5` is a hint for
/// five seconds; `w` and `b` are health checks that went well or badly; `+5` lets five seconds pass.
#[track_caller]
fn check(script: &str, expected: &str) {
    let start = Instant::now();
    let mut now = start;
    let mut machine = Machine::default();
    let mut kept: Vec<Ticket> = Vec::new();
    for word in script.split_whitespace() {
        let seconds = || Duration::from_secs(word[1..].parse().expect("a number follows"));
        let asked = |machine: &mut Machine| machine.ask(now).expect("the script asks when it may");
        match word.as_bytes()[0] {
            b'f' => {
                let ticket = asked(&mut machine);
                machine.failed(ticket, now, &SETTINGS);
            }
            b's' => {
                let ticket = asked(&mut machine);
                machine.succeeded(ticket);
            }
            b'a' => kept.push(asked(&mut machine)),
            b'F' => {
                machine.failed(kept.remove(0), now, &SETTINGS);
            }
            b'S' => {
                machine.succeeded(kept.remove(0));
            }
            b'D' => machine.give_back(kept.remove(0)),
            b'r' => {
                let ticket = asked(&mut machine);
                machine.refused(ticket, now, Some(seconds()), &SETTINGS);
            }
            b'R' => {
                let ticket = asked(&mut machine);
                machine.refused(ticket, now, None, &SETTINGS);
            }
            b'h' => machine.hint(now, now + seconds()),
            b'w' => {
                machine.checked_well();
            }
            b'b' => {
                machine.checked_badly(now, &SETTINGS);
            }
            b'+' => now += seconds(),
            b'x' => {
                machine.ask(now).expect_err("nobody may pass here");
            }
            _ => panic!("`{word}` is no word of a script"),
        }
    }
    let (condition, opens_in) = machine.condition(now);
    let number = match condition {
        Condition::Closed => u64::from(machine.failures()),
        Condition::HalfOpen | Condition::Open => opens_in.as_secs(),
    };
    assert_eq!(format!("{} {number}", condition.name()), expected, "{script}");
}

// parity: 120
#[test]
fn it_opens_after_failures_in_a_row() {
    check("", "closed 0");
    check("f f", "closed 2");
    check("f f f", "open 10");
    check("f f f x", "open 10");
    check("f f s f f", "closed 2");
    check("f f s f f f", "open 10");
}

// parity: 120
#[test]
fn one_probe_decides() {
    check("f f f +9 x", "open 1");
    check("f f f +10", "half_open 0");
    check("f f f +10 a x x", "half_open 0");
    check("f f f +10 a x S s", "closed 0");
    check("f f f +10 a x F", "open 20");
}

// parity: 120
#[test]
fn the_cooldown_grows_to_its_bound_and_shrinks_with_a_success() {
    check("f f f +10 f", "open 20");
    check("f f f +10 f +20 f", "open 40");
    check("f f f +10 f +20 f +40 f", "open 45");
    check("f f f +10 f +20 f +40 f +45 f", "open 45");
    check("f f f +10 f +20 s f f f", "open 10");
}

// parity: 120
#[test]
fn a_probe_that_comes_to_nothing_is_given_back() {
    check("f f f +10 a D", "half_open 0");
    check("f f f +10 a D a x", "half_open 0");
    check("f f f +10 a D s", "closed 0");
    check("f f f +10 a D f", "open 20");
}

#[test]
fn what_began_before_a_change_has_no_say_after_it() {
    check("a a f f f S", "open 10");
    check("a f f f +5 F", "open 5");
    check("a f f f +10 a F", "half_open 0");
    check("a f f f +10 a S", "half_open 0");
    check("a f f f +10 a D", "half_open 0");
    check("a f f f +10 s F", "closed 0");
}

#[test]
fn a_refusal_opens_it_for_as_long_as_was_said() {
    check("r7", "open 7");
    check("r7 +7 s", "closed 0");
    check("r7 +7 r9", "open 9");
    check("r7 +7 f", "open 10");
    check("R", "open 10");
    check("R +10 R", "open 20");
}

#[test]
fn a_hint_is_believed_until_its_own_probe() {
    check("h5", "open 5");
    check("h0", "closed 0");
    check("h5 +5 s", "closed 0");
    check("h5 +5 f", "open 10");
    check("f f f h5", "open 10");
    check("f f f h15", "open 15");
    check("f f f +10 a h30 x", "half_open 0");
}

#[test]
fn health_checks_close_what_failed_and_open_what_does() {
    check("w", "closed 0");
    check("f f w", "closed 2");
    check("f f f w", "closed 0");
    check("f f f +10 a w F", "closed 0");
    check("h9 w", "closed 0");
    check("r9 w", "open 9");
    check("b", "open 10");
    check("b +9 b", "open 10");
    check("b +10", "half_open 0");
    check("f f f +10 f b", "open 20");
}

proptest! {
    // Whatever happens in whatever order: at most one probe at a time, no leave while it is open, open for never longer
    // than the bound, and a way back to closed.
    #[test]
    fn its_invariants_hold(steps in proptest::collection::vec((0_u8..9, 0_u64..30, any::<prop::sample::Index>()), 0..200)) {
        let mut now = Instant::now();
        let mut machine = Machine::default();
        let mut kept: Vec<Ticket> = Vec::new();
        for (step, seconds, which) in steps {
            let ticket = (!kept.is_empty()).then(|| which.index(kept.len()));
            match (step, ticket) {
                (0 | 1, _) => {
                    let before = machine.condition(now).0;
                    match machine.ask(now) {
                        Ok(ticket) => {
                            prop_assert_ne!(before, Condition::Open);
                            prop_assert_eq!(ticket.is_probe(), before == Condition::HalfOpen);
                            kept.push(ticket);
                        }
                        Err(later) => {
                            prop_assert_ne!(before, Condition::Closed);
                            prop_assert!(later > now);
                        }
                    }
                }
                (2, Some(ticket)) => { machine.failed(kept.swap_remove(ticket), now, &SETTINGS); }
                (3, Some(ticket)) => { machine.succeeded(kept.swap_remove(ticket)); }
                (4, Some(ticket)) => machine.give_back(kept.swap_remove(ticket)),
                (5, Some(ticket)) => {
                    let wait = (seconds > 15).then(|| Duration::from_secs(seconds));
                    machine.refused(kept.swap_remove(ticket), now, wait, &SETTINGS);
                }
                (6, _) => machine.hint(now, now + Duration::from_secs(seconds)),
                (7, _) => {
                    if seconds > 15 {
                        machine.checked_well();
                    } else {
                        machine.checked_badly(now, &SETTINGS);
                    }
                }
                _ => now += Duration::from_secs(seconds),
            }
            prop_assert!(machine.condition(now).1 <= SETTINGS.cooldown_max);
            prop_assert!(machine.failures() < SETTINGS.failures);
            let is_calm = Ticket::of_word(machine.word()).is_some();
            prop_assert_eq!(is_calm, machine.condition(now).0 == Condition::Closed && machine.failures() == 0);
        }
        // Whoever still has leave goes; then it recovers.
        kept.into_iter().for_each(|ticket| machine.give_back(ticket));
        now += SETTINGS.cooldown_max;
        let ticket = machine.ask(now).expect("the longest cool-down is over");
        machine.succeeded(ticket);
        prop_assert_eq!(machine.condition(now), (Condition::Closed, Duration::ZERO));
    }
}

fn upstream() -> Arc<str> {
    Arc::from("one")
}

/// Cool-downs that a test can wait for.
const SHORT: config::Breaker = config::Breaker {
    cooldown: Duration::from_millis(500),
    cooldown_max: Duration::from_millis(800),
    ..SETTINGS
};

#[track_caller]
fn wait_half_open(breaker: &Breaker) {
    let start = Instant::now();
    while breaker.standing(&SHORT).condition != Condition::HalfOpen {
        assert!(start.elapsed() < Duration::from_secs(20), "it stays open");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn fail(breaker: &Breaker) {
    breaker.ask(&SHORT).expect("it is closed").failed(&upstream(), &SHORT);
}

#[test]
fn leave_that_is_dropped_is_given_back() {
    let breaker = Breaker::default();
    (0..3).for_each(|_| fail(&breaker));
    assert!(breaker.ask(&SHORT).is_err());
    wait_half_open(&breaker);
    let probe = breaker.ask(&SHORT).expect("one may pass");
    assert!(breaker.ask(&SHORT).is_err(), "and only one");
    drop(probe);
    let probe = breaker.ask(&SHORT).expect("the next one may");
    probe.succeeded(&upstream());
    assert_eq!(breaker.standing(&SHORT).condition, Condition::Closed);
    assert_eq!(breaker.standing(&SHORT).trips, 1);
}

#[test]
fn one_that_is_off_lets_everybody_pass() {
    let off = config::Breaker { failures: 0, ..SHORT };
    let breaker = Breaker::default();
    for _ in 0..100 {
        breaker.ask(&off).expect("it is off").failed(&upstream(), &off);
    }
    breaker.hint(Duration::from_secs(9), &off);
    assert_eq!(breaker.standing(&off).condition, Condition::Closed);
    (0..3).for_each(|_| fail(&breaker));
    assert!(breaker.ask(&SHORT).is_err());
    assert!(breaker.ask(&off).is_ok());
}

#[test]
fn others_are_told_what_it_found_itself_and_no_hint() {
    let changes = broadcast::Sender::new(8);
    let mut heard = changes.subscribe();
    let breaker = Breaker::default();
    breaker.tell_to(&changes);
    breaker.hint(Duration::from_secs(1000), &SHORT);
    assert!(breaker.standing(&SHORT).opens_in <= SHORT.cooldown_max, "a hint is bounded");
    assert!(heard.try_recv().is_err());
    wait_half_open(&breaker);
    breaker.ask(&SHORT).expect("it is half open").succeeded(&upstream());
    (0..3).for_each(|_| fail(&breaker));
    let mut told = || heard.try_recv().map(|change| change.opened_for);
    assert_eq!(told(), Ok(None));
    assert_eq!(told(), Ok(Some(SHORT.cooldown)));
    assert!(told().is_err());
}

#[test]
fn cooldowns_that_cannot_be_counted_are_the_longest() {
    let settings = config::Breaker { backoff_multiplier: 1000.0, ..SETTINGS };
    assert_eq!(settings.cooldown_after(1), Duration::from_secs(10));
    for opening in [2, 50, 1000, u32::MAX] {
        assert_eq!(settings.cooldown_after(opening), settings.cooldown_max);
    }
}
