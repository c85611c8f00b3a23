use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(usize, Place)>> + Send + 'a>>;

fn limits(in_flight: usize, queue: usize) -> Limits {
    let mut limits = Limits { queue, queue_timeout: Duration::from_secs(5), ..Limits::default() };
    limits.total.in_flight = in_flight;
    limits
}

/// Places of an upstream.
fn places(bound: usize) -> Arc<Places> {
    let places = Arc::<Places>::default();
    places.set_bound(bound);
    places
}

/// Begins to wait for any of these.
fn wait<'a>(queue: &'a Arc<Queue>, wanted: &[&Arc<Places>], caller: u64, limits: &'a Limits) -> Waiting<'a> {
    let wanted = wanted.iter().map(|places| Arc::clone(places)).collect();
    let mut waiting: Waiting<'_> = Box::pin(queue.wait(Before::Upstream, wanted, Caller(caller), limits));
    assert!(poll(&mut waiting).is_none(), "there is nothing to be had yet");
    waiting
}

fn poll(waiting: &mut Waiting<'_>) -> Option<Result<(usize, Place)>> {
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_place_is_taken_once_and_given_back() {
    let places = places(2);
    let (first, second) = (places.enter().unwrap(), places.enter().unwrap());
    assert!(places.enter().is_none());
    assert_eq!(places.taken(), 2);
    drop(first);
    assert!(places.enter().is_some());
    drop(second);
    assert_eq!(places.taken(), 0);
}

#[tokio::test]
async fn nothing_is_bounded_before_it_is_configured() {
    let queue = Queue::new();
    let (first, second) = (queue.enter(), queue.enter());
    assert_eq!((queue.total().taken(), queue.total().bound()), (2, 0));
    drop((first, second));
}

// parity: 131
#[tokio::test]
async fn without_a_queue_nobody_waits() {
    let (queue, limits) = (Queue::new(), limits(1, 0));
    queue.configure(&limits);
    let _place = queue.enter().unwrap();
    let error = queue.admit(Caller(1), &limits).await.err().unwrap();
    assert_eq!((&error.kind, error.retry_after), (&ErrorKind::Overloaded, Some(RETRY_AFTER)));
    assert_eq!(error.message, "the gateway is full, try again");
    assert_eq!(queue.refused(Before::Gateway), [("queue_full", 1), ("queue_timeout", 0)]);
}

// parity: 131
#[tokio::test]
async fn a_place_goes_to_whoever_waits_and_to_nobody_before() {
    let (queue, limits, places) = (Queue::new(), limits(0, 9), places(1));
    let place = places.enter().unwrap();
    let mut waiting = wait(&queue, &[&places], 1, &limits);
    assert_eq!((places.waiting(), queue.waiting(Before::Upstream)), (1, 1));
    drop(place);
    assert!(places.enter().is_none(), "it has been handed over");
    let (index, place) = poll(&mut waiting).unwrap().unwrap();
    assert_eq!((index, places.taken(), places.waiting()), (0, 1, 0));
    drop((waiting, place));
    assert_eq!(queue.waiting(Before::Upstream), 0);
    assert_eq!(queue.waits(Before::Upstream)[0].1.count(), 1);
    assert!(places.enter().is_some());
}

// parity: 131
#[tokio::test]
async fn who_waits_too_long_is_told() {
    let queue = Queue::new();
    let limits = Limits { queue_timeout: Duration::from_millis(20), ..limits(1, 9) };
    queue.configure(&limits);
    let place = queue.enter().unwrap();
    let began = Instant::now();
    let error = queue.admit(Caller(1), &limits).await.err().unwrap();
    assert!(began.elapsed() >= limits.queue_timeout);
    assert_eq!(error.message, "the gateway is full and no place became free in 20ms, try again");
    assert_eq!(queue.refused(Before::Gateway), [("queue_full", 0), ("queue_timeout", 1)]);
    assert_eq!(queue.waits(Before::Gateway)[1].1.count(), 1);
    drop(place);
    assert!(queue.enter().is_some(), "nobody stands in the way");
}

// parity: 131
#[tokio::test]
async fn a_full_queue_refuses_at_once_and_makes_room_for_other_callers() {
    let (queue, limits, places) = (Queue::new(), limits(0, 2), places(1));
    let place = places.enter().unwrap();
    let mut first = wait(&queue, &[&places], 1, &limits);
    let mut second = wait(&queue, &[&places], 1, &limits);
    let error = queue.wait(Before::Upstream, vec![places.clone()], Caller(1), &limits).await.err().unwrap();
    assert_eq!(
        error.message,
        "every upstream for this model is full and as many requests wait as may, try again"
    );
    let mut other = wait(&queue, &[&places], 2, &limits);
    assert!(poll(&mut second).unwrap().is_err(), "it was displaced");
    assert_eq!(queue.refused(Before::Upstream), [("queue_full", 2), ("queue_timeout", 0)]);
    drop(place);
    let place = poll(&mut first).unwrap().unwrap();
    assert!(poll(&mut other).is_none());
    drop(place);
    assert!(poll(&mut other).unwrap().is_ok());
}

// parity: 131
#[tokio::test]
async fn the_first_of_several_that_becomes_free_is_taken() {
    let (queue, limits) = (Queue::new(), limits(0, 9));
    let (one, two) = (places(1), places(1));
    let (of_one, of_two) = (one.enter().unwrap(), two.enter().unwrap());
    let mut both = wait(&queue, &[&one, &two], 1, &limits);
    let mut only_two = wait(&queue, &[&two], 1, &limits);
    drop(of_two);
    let (index, _place) = poll(&mut both).unwrap().unwrap();
    assert_eq!((index, one.waiting(), two.waiting()), (1, 0, 1));
    drop(of_one);
    assert!(poll(&mut only_two).is_none(), "a place that nobody waits for stays free");
    assert!(one.enter().is_some());
}

// parity: 131
#[tokio::test]
async fn a_place_handed_to_somebody_who_left_goes_to_the_next() {
    let (queue, limits, places) = (Queue::new(), limits(0, 9), places(1));
    let place = places.enter().unwrap();
    let first = wait(&queue, &[&places], 1, &limits);
    let mut second = wait(&queue, &[&places], 1, &limits);
    drop(place);
    assert!(poll(&mut second).is_none());
    drop(first);
    assert!(poll(&mut second).unwrap().is_ok());
    let [.., (ending, waits)] = queue.waits(Before::Upstream);
    assert_eq!((ending, waits.count()), ("left", 1));
}

#[tokio::test]
async fn a_higher_bound_lets_those_in_that_wait() {
    let (queue, limits, places) = (Queue::new(), limits(0, 9), places(1));
    let first = places.enter().unwrap();
    let mut waiting: Vec<Waiting<'_>> = (0..3).map(|_| wait(&queue, &[&places], 1, &limits)).collect();
    places.set_bound(3);
    let got: Vec<bool> = waiting.iter_mut().map(|waiting| poll(waiting).is_some()).collect();
    // What was given is held by nobody once it was polled away, and goes to the third.
    assert_eq!(got[..2], [true, true]);
    places.set_bound(0);
    drop((waiting, first));
    assert_eq!((places.taken(), places.waiting()), (0, 0));
}

#[tokio::test]
async fn a_lower_bound_takes_nothing_away_and_lets_nobody_in() {
    let (queue, limits, places) = (Queue::new(), limits(0, 9), places(3));
    let mut held: Vec<Place> = (0..3).map(|_| places.enter().unwrap()).collect();
    places.set_bound(1);
    assert_eq!(places.taken(), 3);
    let mut waiting = wait(&queue, &[&places], 1, &limits);
    held.truncate(1);
    assert!(poll(&mut waiting).is_none(), "as many are taken as there are");
    held.clear();
    assert!(poll(&mut waiting).unwrap().is_ok());
}

// parity: 131
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_place_is_lost_when_a_thousand_leave_at_random() {
    const BOUND: usize = 4;
    let queue = Queue::new();
    let limits = Arc::new(limits(BOUND, 2000));
    queue.configure(&limits);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..2000_u64 {
        let (queue, limits) = (queue.clone(), limits.clone());
        tasks.spawn(async move {
            let mut admitting = pin!(queue.admit(Caller(number % 7), &limits));
            // Every other one leaves after a few turns, in the line or with the place in its hand.
            for _ in 0..number % 11 {
                let polled =
                    std::future::poll_fn(|context| Poll::Ready(admitting.as_mut().poll(context))).await;
                if let Poll::Ready(admitted) = polled {
                    let _place = admitted.expect("there is room for all");
                    assert!(queue.total().taken() <= BOUND);
                    tokio::task::yield_now().await;
                    return;
                }
                tokio::task::yield_now().await;
            }
            if number % 2 == 0 {
                let _place = admitting.await.expect("there is room for all");
                assert!(queue.total().taken() <= BOUND);
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }
    assert_eq!((queue.total().taken(), queue.total().waiting(), queue.waiting(Before::Gateway)), (0, 0, 0));
    let held: Vec<_> = (0..BOUND).map(|_| queue.total.enter().expect("all places are there")).collect();
    assert!(queue.total.enter().is_none());
    drop(held);
}

proptest! {
    // parity: 131
    #[test]
    fn no_place_is_lost_or_given_twice(
        steps in prop::collection::vec((0..5_u8, 0..3_usize, 0..8_usize), 0..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let (queue, limits) = (Queue::new(), limits(0, 6));
        let all: Vec<Arc<Places>> = [1, 2, 3].into_iter().map(places).collect();
        let mut held: Vec<Place> = Vec::new();
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        for (step, at, which) in steps {
            match step {
                0 => held.extend(all[at].enter()),
                1 if which < held.len() => drop(held.swap_remove(which)),
                2 => {
                    let wanted = vec![all[at].clone(), all[which % 3].clone()];
                    let caller = Caller(which as u64 % 2);
                    waiting.push(Box::pin(queue.wait(Before::Upstream, wanted, caller, &limits)));
                }
                3 if which < waiting.len() => drop(waiting.swap_remove(which)),
                4 => {
                    let bound = [1, 2, 3][(at + which) % 3];
                    all[at].set_bound(bound.max(all[at].taken()));
                }
                _ => {}
            }
            // Twice: who comes last may displace one that was asked before.
            for _ in 0..2 {
                waiting.retain_mut(|one| match poll(one) {
                    Some(Ok((_, place))) => {
                        held.push(place);
                        false
                    }
                    Some(Err(_)) => false,
                    None => true,
                });
            }
            for (index, places) in all.iter().enumerate() {
                let taken = held.iter().filter(|place| Arc::ptr_eq(&place.0, places)).count();
                prop_assert_eq!(places.taken(), taken, "places of {}", index);
                prop_assert!(taken <= places.bound());
                prop_assert!(taken == places.bound() || places.waiting() == 0, "nobody waits for what is free");
            }
            prop_assert_eq!(queue.waiting(Before::Upstream), waiting.len());
            prop_assert!(waiting.len() <= 6);
        }
        drop((held, waiting));
        prop_assert!(all.iter().all(|places| places.taken() == 0 && places.waiting() == 0));
    }
}
