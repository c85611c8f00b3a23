//! What routing promises, each promise with the row of the parity list it keeps.

use std::borrow::Cow;
use std::collections::HashSet;
use std::iter;

use proptest::prelude::prop;
use proptest::{prop_assert_eq, proptest};

use super::*;

/// The weighted fleets that are tested: name lengths differ because xxh3 hashes each class of lengths in its own way.
const THREE_ONE: [(&str, u32); 2] = [("primary_gpt4", 3), ("azure_backup", 1)];
const FIVE_THREE_TWO: [(&str, u32); 3] =
    [("a", 5), ("east-2", 3), ("eu-west-1.inference.example.internal", 2)];
const FOUR: [(&str, u32); 4] = [("n1", 4), ("n2", 3), ("n3", 2), ("n4", 1)];
const EQUAL: [(&str, u32); 5] = [("one", 1), ("two", 1), ("three", 1), ("four", 1), ("five", 1)];

const KEYING: Keying<'static> = Keying { tenant: "search", model: "gpt-4o" };

fn fleet(upstreams: &[(&str, u32)], strategy: Strategy) -> Routes {
    fleet_with(upstreams, strategy, PriorityMode::Weight)
}

fn fleet_with(upstreams: &[(&str, u32)], strategy: Strategy, priority_mode: PriorityMode) -> Routes {
    let members = upstreams.iter().map(|&(name, priority)| member(name, priority, ModelMatch::Any));
    Routes::with_members(members.collect(), Routing { strategy, priority_mode })
}

fn member(name: &str, priority: u32, models: ModelMatch) -> Member {
    Member { name: name.into(), models, aliases: Vec::new(), priority, is_enabled: true }
}

fn exact(name: &str) -> ModelMatch {
    ModelMatch::Exact(vec![name.to_owned()])
}

/// A conversation of `turns` turns; the shorter one is the beginning of the longer.
fn conversation(key: usize, turns: usize) -> Prompt<'static> {
    let first = format!("question {key}: {}", later_question(key, 0));
    let prefix = vec![Cow::Borrowed(&b"be brief"[..]), first.clone().into_bytes().into()];
    let later = (1..turns).map(|turn| Cow::Borrowed(later_question(key, turn)));
    Prompt { prefix, users: iter::once(first.into()).chain(later).collect() }
}

/// Some stretch of text, of any length from nothing on.
fn later_question(key: usize, turn: usize) -> &'static str {
    let random = splitmix(key * 64 + turn) as usize;
    let begin = random % LONG.len();
    &LONG[begin..begin + (random >> 32) % (LONG.len() - begin)]
}

fn splitmix(seed: usize) -> u64 {
    let mixed = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn rank(routes: &Routes, prompt: &Prompt<'_>) -> Vec<usize> {
    let undrawn = || unreachable!("a request with an anchor draws nothing");
    routes.rank(&routes.candidates(KEYING.model), KEYING, prompt, |_| 0, undrawn).collect()
}

fn rank_drawn(routes: &Routes, draw: u64) -> Vec<usize> {
    routes.rank(&routes.candidates(KEYING.model), KEYING, &Prompt::default(), |_| 0, || draw).collect()
}

/// Asserts that `counts` are what `weights` promise: chi-square at the 0.1 % level, and each share within one percent.
#[track_caller]
fn check_shares(counts: &[usize], weights: &[u32]) {
    // The critical values of 1 to 4 degrees of freedom.
    const CRITICAL: [f64; 4] = [10.83, 13.82, 16.27, 18.47];
    let (total, weight_total) = (counts.iter().sum::<usize>() as f64, f64::from(weights.iter().sum::<u32>()));
    let mut chi_square = 0.0;
    for (&count, &weight) in counts.iter().zip(weights) {
        let expected = total * f64::from(weight) / weight_total;
        chi_square += (count as f64 - expected).powi(2) / expected;
        assert!((count as f64 - expected).abs() < 0.01 * total, "{counts:?} for weights {weights:?}");
    }
    assert!(
        chi_square < CRITICAL[weights.len() - 2],
        "chi-square {chi_square} of {counts:?} for {weights:?}"
    );
}

fn weights(upstreams: &[(&str, u32)]) -> Vec<u32> {
    upstreams.iter().map(|&(_, weight)| weight).collect()
}

/// Counts what `first` says of each of 100,000 keys.
fn tally(members: usize, first: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut counts = vec![0; members];
    for key in 0..100_000 {
        counts[first(key)] += 1;
    }
    counts
}

// parity: 59
#[test]
fn the_hash_is_the_one_of_every_build() {
    #[track_caller]
    fn check(tenant: &str, model: &str, pieces: &[&'static str], anchor: &str, order: &[usize]) {
        let keying = Keying { tenant, model };
        let prefix: Vec<_> = pieces.iter().map(|piece| Cow::Borrowed(piece.as_bytes())).collect();
        assert_eq!(Anchor::of_prefix(keying, &prefix).unwrap().to_string(), anchor);
        let prompt = Prompt { prefix, users: Vec::new() };
        let routes = fleet(&FIVE_THREE_TWO, Strategy::Deterministic);
        let ranked: Vec<_> = routes.rank(&routes.candidates(model), keying, &prompt, |_| 0, || 0).collect();
        assert_eq!(ranked, order);
    }
    check("", "gpt-4o", &["hello"], "0a3871209d81c0d6", &[0, 1, 2]);
    check("", "gpt-4o", &["be brief", "hello"], "9fcc1e4d8e34afce", &[0, 1, 2]);
    check("", "gpt-4o", &["be briefhello"], "6b56cae734578444", &[1, 0, 2]);
    check("", "gpt-4o", &["", "hello"], "1e29feb8f470daf9", &[0, 1, 2]);
    check("search", "gpt-4o", &["hello"], "591dffdb83fcec25", &[2, 1, 0]);
    check("", "gpt-4o-mini", &["hello"], "b95d28aa325a4dce", &[1, 0, 2]);
    check("", "gpt-4o", &["你好，世界"], "f13f917dbcebd1d0", &[1, 0, 2]);
    check(
        "team-a",
        "m",
        &[r#"[{"type":"function","function":{"name":"f"}}]"#, "s", "u"],
        "8c739d201946c6c6",
        &[2, 0, 1],
    );
    check("", "m", &[LONG], "9c59493f5d43853f", &[0, 1, 2]);
}

/// Longer than the 240 bytes up to which xxh3 has other ways.
const LONG: &str = "the quick brown fox jumps over the lazy dog, the quick brown fox jumps over the lazy dog, the quick \
                    brown fox jumps over the lazy dog, the quick brown fox jumps over the lazy dog, the quick brown \
                    fox jumps over the lazy dog, the quick brown fox jumps over the lazy dog";

// parity: 59
#[test]
fn scores_are_the_ones_of_every_build() {
    #[track_caller]
    fn check(draw: u64, name: &str, weight: u32, expected: f64) {
        // The logarithm may differ in its last bit from one platform to another.
        let score = rendezvous::score(Anchor::drawn(draw), name, weight);
        assert!((score - expected).abs() < 1e-9, "{score:.12}");
    }
    check(0, "a", 1, 0.103737652247);
    check(0, "openai", 1, 0.110586851744);
    check(0, "openai", 10, 0.011058685174);
    check(1, "openai", 10, 0.037448938596);
    check(u64::MAX, "eu-west-1.inference.example.internal", 3, 0.004487360684);
}

// parity: 60
#[test]
fn a_growing_conversation_never_moves() {
    let routes = fleet(&EQUAL, Strategy::Deterministic);
    for key in 0..1000 {
        let began = rank(&routes, &conversation(key, 1));
        for turns in 2..=20 {
            assert_eq!(rank(&routes, &conversation(key, turns)), began, "chat {key} at turn {turns}");
        }
    }
}

// parity: 62
#[test]
fn shares_follow_weights_for_conversations_of_any_length() {
    #[track_caller]
    fn check(upstreams: &[(&str, u32)], turns: usize) {
        let routes = fleet(upstreams, Strategy::Deterministic);
        let first = |key| rank(&routes, &conversation(key, turns))[0];
        check_shares(&tally(upstreams.len(), first), &weights(upstreams));
    }
    check(&THREE_ONE, 1);
    check(&THREE_ONE, 20);
    check(&FIVE_THREE_TWO, 1);
    check(&FIVE_THREE_TWO, 20);
    check(&FOUR, 1);
}

// parity: 61, 62
#[test]
fn one_turn_votes_follow_weights() {
    for upstreams in [&THREE_ONE[..], &FIVE_THREE_TWO] {
        let routes = fleet(upstreams, Strategy::Voting);
        let first = |key| rank(&routes, &conversation(key, 1))[0];
        check_shares(&tally(upstreams.len(), first), &weights(upstreams));
    }
}

// parity: 62, 66, 69
#[test]
fn random_draws_follow_weights() {
    for upstreams in [&THREE_ONE[..], &FIVE_THREE_TWO, &FOUR] {
        let routes = fleet(upstreams, Strategy::Random);
        let first = |key| rank_drawn(&routes, splitmix(key))[0];
        check_shares(&tally(upstreams.len(), first), &weights(upstreams));
    }
}

// parity: 66
#[test]
fn a_request_without_text_is_a_draw() {
    for strategy in [Strategy::Deterministic, Strategy::Voting] {
        let routes = fleet(&FIVE_THREE_TWO, strategy);
        let first = |key| rank_drawn(&routes, splitmix(key))[0];
        check_shares(&tally(3, first), &weights(&FIVE_THREE_TWO));
    }
}

// parity: 63
#[test]
fn a_new_upstream_takes_only_its_share_and_only_for_itself() {
    let before = fleet(&EQUAL[..4], Strategy::Deterministic);
    let after = fleet(&EQUAL, Strategy::Deterministic);
    let has_moved = |key| {
        let prompt = conversation(key, 1);
        let (old, new) = (rank(&before, &prompt)[0], rank(&after, &prompt)[0]);
        assert!(new == old || new == 4, "key {key} moved between upstreams that stayed");
        usize::from(new != old)
    };
    check_shares(&tally(2, has_moved), &[4, 1]);
}

// parity: 63
#[test]
fn without_an_upstream_the_rest_stand_as_they_stood() {
    let with = fleet(&FIVE_THREE_TWO, Strategy::Deterministic);
    let without = fleet(&FIVE_THREE_TWO[..2], Strategy::Deterministic);
    for key in 0..10_000 {
        let prompt = conversation(key, 1);
        let mut stood = rank(&with, &prompt);
        stood.retain(|&upstream| upstream != 2);
        assert_eq!(rank(&without, &prompt), stood);
    }
}

// parity: 64
#[test]
fn the_load_of_a_dead_upstream_spreads_by_weight() {
    for strategy in [Strategy::Deterministic, Strategy::Voting] {
        let routes = fleet(&FOUR, strategy);
        let mut next = [0; 4];
        for key in 0..100_000 {
            let ranked = rank(&routes, &conversation(key, 1));
            if ranked[0] == 0 {
                next[ranked[1]] += 1;
            }
        }
        check_shares(&next[1..], &[3, 2, 1]);
    }
}

// parity: 65
#[test]
fn weight_zero_comes_after_everybody_else() {
    let upstreams = [("drained", 0), ("small", 1), ("also-drained", 0), ("big", 1000)];
    let strategies = [
        Strategy::Deterministic,
        Strategy::Voting,
        Strategy::Random,
        Strategy::RoundRobin,
        Strategy::LeastInFlight,
        Strategy::Failover,
    ];
    for strategy in strategies {
        let routes = fleet(&upstreams, strategy);
        for key in 0..1000 {
            let prompt = conversation(key, 3);
            // The busiest count for the upstreams with weight: it must not help the drained ones.
            let in_flight = |upstream: usize| 100 * upstreams[upstream].1 as usize;
            let ranked: Vec<_> =
                routes.rank(&[0, 1, 2, 3], KEYING, &prompt, in_flight, || splitmix(key)).collect();
            let last: HashSet<_> = ranked[2..].iter().copied().collect();
            assert_eq!(last, HashSet::from([0, 2]), "{strategy:?} ranked {ranked:?}");
        }
    }
}

// parity: 65
#[test]
fn where_all_weights_are_zero_all_share() {
    let routes = fleet(&[("one", 0), ("two", 0), ("three", 0)], Strategy::Deterministic);
    let first = |key| rank(&routes, &conversation(key, 1))[0];
    check_shares(&tally(3, first), &[1, 1, 1]);
}

// parity: 62
#[test]
fn ranks_are_tiers_with_equal_shares_inside() {
    let upstreams = [("backup", 2), ("one", 1), ("two", 1), ("last", 999)];
    let strategies = [
        Strategy::Deterministic,
        Strategy::Voting,
        Strategy::Random,
        Strategy::RoundRobin,
        Strategy::LeastInFlight,
    ];
    for strategy in strategies {
        let routes = fleet_with(&upstreams, strategy, PriorityMode::Rank);
        let mut counts = [0; 2];
        for key in 0..20_000 {
            let draw = || splitmix(key);
            let ranked: Vec<_> =
                routes.rank(&[0, 1, 2, 3], KEYING, &conversation(key, 1), |_| 0, draw).collect();
            counts[ranked[0] - 1] += 1;
            assert_eq!(ranked[2..], [0, 3], "{strategy:?} ranked {ranked:?}");
        }
        check_shares(&counts, &[1, 1]);
    }
}

// parity: 70
#[test]
fn failover_keeps_configuration_order() {
    for mode in [PriorityMode::Weight, PriorityMode::Rank] {
        let routes = fleet_with(&[("b", 7), ("a", 7), ("c", 7)], Strategy::Failover, mode);
        assert_eq!(rank(&routes, &conversation(1, 1)), [0, 1, 2]);
    }
    let ranked = fleet_with(&[("b", 3), ("a", 2), ("c", 2)], Strategy::Failover, PriorityMode::Rank);
    assert_eq!(rank(&ranked, &conversation(1, 1)), [1, 2, 0]);
}

/// Takes turns for one model, every time for another tenant, the rotation beginning where `draw` says.
fn turns(routes: &Routes, model: &str, draw: u64, count: usize) -> String {
    let candidates = routes.candidates(model);
    let turn = |key: usize| {
        let keying = Keying { tenant: &key.to_string(), model };
        routes.rank(&candidates, keying, &Prompt::default(), |_| 0, || draw).next().unwrap()
    };
    (0..count).map(turn).map(|upstream| char::from(b'a' + u8::try_from(upstream).unwrap())).collect()
}

// parity: 68
#[test]
fn turns_alternate_exactly_for_each_model() {
    for draw in 0..100 {
        let routes = fleet(&[("one", 1), ("two", 1)], Strategy::RoundRobin);
        let (mut first, mut second) = (String::new(), String::new());
        for _ in 0..100 {
            first += &turns(&routes, "m1", draw, 1);
            second += &turns(&routes, "m2", draw, 1);
        }
        assert!(first == "ab".repeat(50) || first == "ba".repeat(50), "{first}");
        assert_eq!(first, second, "two models take their turns apart from each other");
    }
}

// parity: 62, 68
#[test]
fn turns_follow_weights_as_evenly_as_can_be() {
    #[track_caller]
    fn check(weights: &[u32], expected: &str) {
        let names: Vec<String> = (0..weights.len()).map(|index| index.to_string()).collect();
        let upstreams: Vec<_> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let routes = fleet(&upstreams, Strategy::RoundRobin);
        assert_eq!(turns(&routes, "m", 0, expected.len()), expected);
    }
    check(&[1, 1, 1], "abcabc");
    check(&[3, 1], "aabaaaba");
    check(&[5, 1, 1], "aabacaaaabacaa");
    check(&[0, 1, 1], "bcbcbc");
}

// parity: 68
#[test]
fn a_rotation_begins_anywhere_so_that_rare_models_share_too() {
    let routes = fleet(&FIVE_THREE_TWO, Strategy::RoundRobin);
    let first = |key: usize| {
        let turn = turns(&routes, &format!("model-{key}"), splitmix(key), 1);
        usize::from(turn.as_bytes()[0] - b'a')
    };
    check_shares(&tally(3, first), &weights(&FIVE_THREE_TWO));
}

// parity: 67
#[test]
fn the_fewest_in_flight_for_their_weight_go_first() {
    #[track_caller]
    fn check(in_flight: [usize; 3], expected: [usize; 3]) {
        let routes = fleet(&[("one", 1), ("two", 1), ("four", 4)], Strategy::LeastInFlight);
        for draw in 0..100 {
            let ranked =
                routes.rank(&[0, 1, 2], KEYING, &Prompt::default(), |upstream| in_flight[upstream], || draw);
            assert_eq!(ranked.collect::<Vec<_>>(), expected);
        }
    }
    check([1, 2, 0], [2, 0, 1]);
    check([1, 2, 3], [2, 0, 1]);
    check([1, 2, 5], [0, 2, 1]);
    check([2, 1, 9], [1, 0, 2]);
}

// parity: 62, 67
#[test]
fn idle_upstreams_share_by_weight() {
    let routes = fleet(&FIVE_THREE_TWO, Strategy::LeastInFlight);
    let first = |key| rank_drawn(&routes, splitmix(key))[0];
    check_shares(&tally(3, first), &weights(&FIVE_THREE_TWO));
}

/// The vote as it is documented, written down once more without any of the code under test but the score.
fn vote_as_documented(upstreams: &[(&str, u32)], prompt: &Prompt<'_>) -> Vec<usize> {
    let mut votes = vec![0; upstreams.len()];
    for text in prompt.users.iter().filter(|text| !text.is_empty()) {
        let head: String = text.chars().take(64).collect();
        let anchor = Anchor::of_prefix(KEYING, &[head.as_bytes().into()]).unwrap();
        let score = |index: &usize| rendezvous::score(anchor, upstreams[*index].0, upstreams[*index].1);
        let elected = (0..upstreams.len()).min_by(|one, other| score(one).total_cmp(&score(other))).unwrap();
        votes[elected] += text.len();
    }
    let whole = Anchor::of_prefix(KEYING, &prompt.prefix).unwrap();
    let score = |index: usize| rendezvous::score(whole, upstreams[index].0, upstreams[index].1);
    let mut ranked: Vec<usize> = (0..upstreams.len()).collect();
    ranked.sort_by(|&one, &other| votes[other].cmp(&votes[one]).then(score(one).total_cmp(&score(other))));
    ranked
}

// parity: 61
#[test]
fn the_vote_is_the_documented_one() {
    let routes = fleet(&FOUR, Strategy::Voting);
    for key in 0..2000 {
        let mut prompt = conversation(key, 1 + key % 20);
        prompt.users.push("".into());
        assert_eq!(rank(&routes, &prompt), vote_as_documented(&FOUR, &prompt), "chat {key}");
    }
}

// parity: 61
#[test]
fn a_vote_looks_at_64_characters_and_weighs_all_bytes() {
    let head = "é".repeat(64);
    assert_eq!(Anchor::of_message(KEYING, &head), Anchor::of_message(KEYING, &format!("{head}x")));
    assert_ne!(
        Anchor::of_message(KEYING, &head),
        Anchor::of_message(KEYING, &format!("{}x", "é".repeat(63)))
    );
    let routes = fleet(&FOUR, Strategy::Voting);
    let prompt = Prompt { users: vec![head.into()], ..conversation(0, 1) };
    let choices = routes.rank(&[0, 1, 2, 3], KEYING, &prompt, |_| 0, || 0).into_choices();
    assert_eq!(choices[0].standing, -128.0);
}

#[test]
fn candidates_are_the_enabled_upstreams_that_accept_in_order() {
    #[track_caller]
    fn check(model: &str, expected: &[usize]) {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let mut disabled = member("disabled", 1, ModelMatch::Any);
        disabled.is_enabled = false;
        let members = vec![
            member("keyword", 1, ModelMatch::Keyword(words(&["gpt-4", "o1"]))),
            disabled,
            member("exact", 1, ModelMatch::Exact(words(&["gpt-4", "deepseek-chat"]))),
            member("prefix", 1, ModelMatch::Prefix(words(&["gpt-", "claude"]))),
        ];
        let routing = Routing { strategy: Strategy::Deterministic, priority_mode: PriorityMode::Weight };
        let routes = Routes::with_members(members, routing);
        for _ in 0..2 {
            assert_eq!(*routes.candidates(model), *expected, "`{model}`, also when it is asked for again");
        }
    }
    check("gpt-4", &[0, 2, 3]);
    check("gpt-4o", &[0, 3]);
    check("my-gpt-4-copy", &[0]);
    check("deepseek-chat", &[2]);
    check("deepseek-chat-2", &[]);
    // parity: 73
    check("claude-sonnet-4", &[3]);
    check("claude", &[3]);
    check("not-claude", &[]);
    check("GPT-4", &[]);
    check("", &[]);
    check(&"gpt-4".repeat(1000), &[0, 3]);
}

#[test]
fn candidates_stay_right_when_more_models_come_than_are_kept() {
    let members = (0..3).map(|index| member(&index.to_string(), 1, exact(&format!("m{index}")))).collect();
    let routing = Routing { strategy: Strategy::Deterministic, priority_mode: PriorityMode::Weight };
    let routes = Routes::with_members(members, routing);
    for key in 0..5000 {
        assert!(routes.candidates(&format!("x{key}")).is_empty());
        assert_eq!(*routes.candidates(&format!("m{}", key % 3)), [key % 3]);
    }
}

#[test]
fn a_model_that_comes_again_is_not_searched_for_again() {
    let routes = fleet(&EQUAL, Strategy::Deterministic);
    assert!(Arc::ptr_eq(&routes.candidates("gpt-4o"), &routes.candidates("gpt-4o")));
}

#[test]
fn a_fallback_is_a_model_then_an_upstream_then_anything() {
    #[track_caller]
    fn check(takes_all: bool, name: &str, expected: Option<Fallback<'_>>) {
        let mut off = member("off", 1, exact("off-model"));
        off.is_enabled = false;
        let models = if takes_all { ModelMatch::Any } else { exact("main") };
        let members = vec![member("first", 1, models), member("azure", 1, exact("gpt-4-backup")), off];
        let routing = Routing { strategy: Strategy::Deterministic, priority_mode: PriorityMode::Weight };
        assert_eq!(Routes::with_members(members, routing).fallback(name), expected);
    }
    for takes_all in [false, true] {
        check(takes_all, "gpt-4-backup", Some(Fallback::Model("gpt-4-backup")));
        check(takes_all, "azure", Some(Fallback::Upstream(1)));
    }
    check(false, "other", None);
    check(true, "other", Some(Fallback::Model("other")));
    check(false, "off", None);
    check(false, "off-model", None);
}

#[test]
fn nobody_pays_for_what_is_not_used() {
    #[track_caller]
    fn check(strategy: Strategy, expected: Reads) {
        let routes = fleet(&FOUR, strategy);
        assert_eq!(routes.reads(&[0, 1]), expected);
        assert_eq!(routes.reads(&[0]), Reads::Nothing);
        assert_eq!(routes.reads(&[]), Reads::Nothing);
    }
    check(Strategy::Deterministic, Reads::Prefix);
    check(Strategy::Voting, Reads::Users);
    check(Strategy::Random, Reads::Nothing);
    check(Strategy::RoundRobin, Reads::Nothing);
    check(Strategy::LeastInFlight, Reads::Nothing);
    check(Strategy::Failover, Reads::Nothing);
}

proptest! {
    #[test]
    fn every_candidate_is_ranked_once_and_lazily_as_in_full(
        weights in prop::collection::vec(0_u32..5, 0..12),
        rank_mode: bool,
        draw: u64,
        texts in prop::collection::vec(".{0,80}", 0..4),
    ) {
        let names: Vec<String> = (0..weights.len()).map(|index| format!("u{index}")).collect();
        let upstreams: Vec<_> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let priority_mode = if rank_mode { PriorityMode::Rank } else { PriorityMode::Weight };
        let prompt = Prompt {
            prefix: texts.iter().map(|text| text.as_bytes().into()).collect(),
            users: texts.iter().map(|text| text.into()).collect(),
        };
        for strategy in [Strategy::Deterministic, Strategy::Voting, Strategy::Random, Strategy::RoundRobin,
            Strategy::LeastInFlight, Strategy::Failover] {
            let routes = fleet_with(&upstreams, strategy, priority_mode);
            let candidates = routes.candidates("m");
            let ranking = routes.rank(&candidates, KEYING, &prompt, |upstream| upstream % 3, || draw);
            let full: Vec<_> = ranking.clone().into_choices().iter().map(|choice| choice.upstream).collect();
            let lazy: Vec<_> = ranking.collect();
            prop_assert_eq!(&lazy, &full);
            let distinct: HashSet<_> = lazy.iter().collect();
            prop_assert_eq!(distinct.len(), weights.len());
        }
    }
}

#[test]
fn an_alias_is_taken_beside_what_the_match_takes() {
    let aliased = Member { aliases: vec!["fast".to_owned()], ..member("a", 1, exact("served")) };
    let anything = Member { aliases: vec!["a".to_owned()], ..member("b", 1, ModelMatch::Any) };
    let routes = Routes::with_members(
        vec![aliased, anything],
        Routing { strategy: Strategy::Failover, priority_mode: PriorityMode::Weight },
    );
    assert_eq!(*routes.candidates("fast"), [0, 1]);
    assert_eq!(*routes.candidates("served"), [0, 1]);
    assert_eq!(*routes.candidates("other"), [1]);
    // A model that an upstream knows by name goes before an upstream of that name.
    assert_eq!(routes.fallback("a"), Some(Fallback::Model("a")));
    assert_eq!(routes.fallback("fast"), Some(Fallback::Model("fast")));
    assert_eq!(routes.fallback("b"), Some(Fallback::Upstream(1)));
}
