use proptest::prelude::*;

use super::*;
use crate::window::WINDOW_BYTES_MAX;

/// All patterns that are built in, and the given customs.
fn rules(customs: &[(&str, &str)]) -> Rc<Rules> {
    let mut rules = Rules::default();
    for pattern in Pattern::ALL {
        rules.patterns.insert(pattern);
    }
    for &(name, regex) in customs {
        rules.customs.push(Custom { name: name.to_owned(), regex: Regex::new(regex).unwrap() });
    }
    Rc::new(rules)
}

fn mask(rules: &Rc<Rules>, pieces: &[&str]) -> String {
    let mut masker = Masker::new(Rc::clone(rules));
    let mut out = String::new();
    let mut to = |piece: Piece<'_>| match piece {
        Piece::Text(text) => out.push_str(text),
        Piece::Match(rule) => out.extend(["[", rules.name(rule), "]"]),
    };
    for piece in pieces {
        masker.push(piece, &mut to);
        assert!(masker.held.len() < WINDOW_BYTES_MAX, "holds {}", masker.held.len());
    }
    masker.finish(&mut to);
    out
}

/// Checks the text whole, cut at every pair of places, and character by character.
#[track_caller]
fn check_with(rules: &Rc<Rules>, text: &str, expected: &str) {
    assert_eq!(mask(rules, &[text]), expected, "whole");
    let cuts: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
    for (i, &a) in cuts.iter().enumerate() {
        for &b in &cuts[i..] {
            let pieces = [&text[..a], &text[a..b], &text[b..]];
            assert_eq!(mask(rules, &pieces), expected, "cut as {pieces:?}");
        }
    }
    check_characters(rules, text, expected);
}

#[track_caller]
fn check_characters(rules: &Rc<Rules>, text: &str, expected: &str) {
    let characters: Vec<&str> = text.split("").collect();
    assert_eq!(mask(rules, &characters), expected, "by characters");
}

#[track_caller]
fn check(text: &str, expected: &str) {
    check_with(&rules(&[]), text, expected);
}

#[track_caller]
fn check_same(text: &str) {
    check(text, text);
}

#[test]
fn an_email_address_is_masked() {
    check("a@b.io", "[email]");
    check("write to jane.doe+x@mail.example.co.uk.", "write to [email].");
    check("<jane@example.com>,'o'brien@x.org'", "<[email]>,'[email]'");
    check("a@b.com:c@d.com a@b@c.de", "[email]:[email] a@[email]");
    check("a@b.com-based, a@b.com-, a@xn--bcher-kva.xn--p1ai", "[email]-based, [email]-, [email]");
    check("邮箱a@b.com是", "邮箱[email]是");
    check("-a@b.com ..a@b.com", "[email] [email]");
}

#[test]
fn what_only_looks_like_an_email_address_stays() {
    check_same("a @b.com a@ b.com @user a@b a@b.c a@1.2 user@host:path");
    check_same("lodash@4.17.21 a@b.c0m @app.route");
    check_same(&format!("{}@b.com", "a".repeat(65)));
    check_same("a@-b.com a@.com");
}

#[test]
fn a_card_number_is_masked_by_its_check_digit() {
    check("4111111111111111", "[card]");
    check("pay 4111 1111 1111 1111.", "pay [card].");
    check("5500-0000-0000-0004, 12/27", "[card], 12/27");
    check("3782 822463 10005 and 30569309025904", "[card] and [card]");
    check("2223003122003222 6011000990139424", "[card] [card]");
    check("12 4111 1111 1111 1111 123", "12 [card] 123");
    check("4222222222222", "[card]");
}

#[test]
fn other_numbers_stay() {
    check_same("4111111111111112 4111 1111 1111 1112");
    check_same("1700000000000 0000000000000000 41111111111111111111");
    check_same("x4111111111111111 4111111111111111a 0.4111111111111111");
    check_same("4111 1111-1111 1111 4111  1111 1111 1111 411 1111 1111 11111");
    check_same("12:30:45 2026-11-21 1.234.567,89 v1.2.3.4 100.000");
}

#[test]
fn an_account_number_is_masked_by_its_check_digits() {
    check("DE89370400440532013000", "[iban]");
    check("IBAN: GB82 WEST 1234 5698 7654 32, thanks", "IBAN: [iban], thanks");
    check("fr1420041010050500013m02606", "[iban]");
    check("NO9386011117947 and", "[iban] and");
    check("MT84 MALT 0110 0001 2345 MTLC AST0 01S", "[iban]");
    check_same("DE89370400440532013001 DE8937040044053201300 DE893704004405320130000");
    check_same("ZZ82WEST12345698765432 XDE89370400440532013000 DE89  3704 0044 0532 0130 00");
}

#[test]
fn a_phone_number_is_masked_in_its_usual_forms() {
    check("+14155552671", "[phone]");
    check("call +49 (0)30 901820-0 now", "call [phone] now");
    check("+1 (415) 555-2671; +44.20.7946.0958", "[phone]; [phone]");
    check("415-555-2671 415.555.2671 (415) 555-2671", "[phone] [phone] [phone]");
    check("1-800-555-1234, (415)555-2671.", "[phone], [phone].");
    check_same("+1 +12345678 +1.2345678901 +0123456789 +12345678901234567");
    check_same("115-555-2671 415-155-2671 415-555-26711 415-555-2671-1 415-555.2671");
    check_same("a415-555-2671 12-415-555-2671 4155552671 415-555-267");
}

#[test]
fn addresses_of_machines_are_masked() {
    check("10.0.0.1", "[ipv4]");
    check("http://192.168.1.254:8080/x 10.0.0.0/8.", "http://[ipv4]:8080/x [ipv4]/8.");
    check("127.0.0.1. ", "[ipv4]. ");
    check("2001:db8::1 fe80::1%eth0 ::1 [::ffff:10.0.0.1]:80", "[ipv6] [ipv6]%eth0 [ipv6] [[ipv6]]:80");
    check("2001:0db8:85a3:0000:0000:8a2e:0370:7334/64", "[ipv6]/64");
    check("1:2:3:4:5:6:7:8, 1:2:3:4:5:6:1.2.3.4 fe80::: 1::", "[ipv6], [ipv6] [ipv6]: [ipv6]");
    check("at fe80::1: up. at fe80::1.", "at [ipv6]: up. at [ipv6].");
    check_same("256.1.1.1 1.2.3 1.2.3.4.5 1.2.3.4a v1.2.3.4 1.2.3.");
    check_same("12:30:45 00:1a:2b:3c:4d:5e std::vec ab::cd :: a::g1 1:2:3:4:5:6:7:8:9 fe80::12345 1::2::3");
}

#[test]
fn keys_of_services_are_masked() {
    check("sk-abcdefghij0123456789", "[api-key]");
    check("OPENAI_API_KEY=sk-proj-aB3_dE-fghijklmnop0123, ", "OPENAI_API_KEY=[api-key], ");
    check(&format!("ghp_{}1!", "a".repeat(35)), "[api-key]!");
    check("AKIAIOSFODNN7EXAMPLE xoxb-1234567890-abc", "[api-key] [api-key]");
    check("Authorization: Bearer abcdef.0123456789==.", "Authorization: [api-key].");
    check("bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[api-key]");
    check_same("sk-short1 sk-a-class-name-in-words-only ask-abcdefghij0123456789");
    check_same("the bearer of this internationalisation is bearer 0123456789");
    check_same("AKIAiosfodnn7example ghp_short1 sk- s xox");
}

#[test]
fn web_tokens_are_masked() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_";
    check(token, "[jwt]");
    check(&format!("token {token}. Next"), "token [jwt]. Next");
    check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0. eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", "[jwt]. [jwt]");
    check_same("eyJhbGciOiJIUzI1NiJ9 eyJhbGciOiJIUzI1NiJ9.abc eyes eyJ.e");
}

#[test]
fn a_social_security_number_is_masked() {
    check("123-45-6789", "[us-ssn]");
    check("SSN: 078-05-1120.", "SSN: [us-ssn].");
    check_same("000-45-6789 666-45-6789 900-45-6789 123-00-6789 123-45-0000");
    check_same("1123-45-6789 123-45-67890 123-45-6789-1 123456789 2020-11-21");
}

#[test]
fn customs_are_found_among_the_others() {
    let rules = rules(&[("employee", r"\bE-\d{4,6}\b"), ("wide", r"\w+@corp"), ("mail", r"x@y\.com")]);
    let check = |text: &str, expected: &str| check_with(&rules, text, expected);
    check("E-1234 xE-1234 E-1234567 E-12345.", "[employee] xE-1234 E-1234567 [employee].");
    check("jane@corp x@y.com a@corporate", "[wide] [email] [wide]orate");
    check("日jane@corp10.0.0.1", "日[wide]10.0.0.1");
    check("10.0.0.1jane@corp", "10.0.0.[wide]");
}

#[test]
fn the_longest_of_overlapping_matches_wins_then_the_first() {
    let rules = rules(&[("long", r"a@b\.com/[a-z]+"), ("same", r"c@d\.com")]);
    check_with(&rules, "a@b.com/xyz c@d.com", "[long] [email]");
}

#[test]
fn a_run_may_begin_behind_a_match() {
    let rules = rules(&[("a", "k="), ("b", "[a-z]+!")]);
    check_with(&rules, "xk=ab! cd!", "x[a][b] [b]");
}

#[test]
fn a_match_beyond_the_bound_is_masked_to_its_end() {
    let custom = rules(&[("secret", "secret: [a-z]+"), ("other", "zz[0-9]")]);
    let long = "a".repeat(3 * WINDOW_BYTES_MAX);
    let token = format!("eyJh.eyJ{long}.{long} x");
    let key = format!("sk-1{long}, x");
    let secret = format!("secret: {long}1 x");
    for (text, expected) in [(token, "[jwt] x"), (key, "[api-key], x"), (secret, "[secret]1 x")] {
        assert_eq!(mask(&custom, &[&text]), expected, "whole");
        check_characters(&custom, &text, expected);
        for at in 0..text.len() {
            assert_eq!(mask(&custom, &[&text[..at], &text[at..]]), expected, "cut at {at}");
        }
    }
}

#[test]
fn nothing_of_a_match_that_ends_near_the_bound_is_left() {
    let rules = rules(&[("run", "日+")]);
    for len in WINDOW_BYTES_MAX - 24..WINDOW_BYTES_MAX + 8 {
        let long = "a".repeat(len);
        let (header, signed) = (format!("eyJ{long}.eyJb.c. x"), format!("eyJh.eyJb.{long}. x"));
        // A token is known by the beginning of its second part; from the bound on a full stop behind it counts as its own.
        let in_header = match header.len() - 3 {
            ..WINDOW_BYTES_MAX => "[jwt]. x",
            len if len < WINDOW_BYTES_MAX + 4 => "[jwt] x",
            _ => header.as_str(),
        };
        let in_signature = if signed.len() - 3 < WINDOW_BYTES_MAX { "[jwt]. x" } else { "[jwt] x" };
        let cases = [
            (header.clone(), in_header),
            (format!("eyJh.eyJ{long}.c x"), "[jwt] x"),
            (signed, in_signature),
            (format!("Bearer 1{long}.c x"), "[api-key] x"),
            (format!("{} x", "日".repeat(len / 3)), "[run] x"),
        ];
        for (text, expected) in cases {
            assert_eq!(mask(&rules, &[&text]), expected, "whole, {len}");
            check_characters(&rules, &text, expected);
        }
    }
}

#[test]
fn a_match_that_needs_more_than_the_bound_is_not_found() {
    let rules = rules(&[("block", "BEGIN[^!]*END")]);
    let text = format!("BEGIN{}END!", "a".repeat(WINDOW_BYTES_MAX));
    assert_eq!(mask(&rules, &[&text]), text);
    check_characters(&rules, &text, &text);
}

/// Fragments from which texts grow that are full of half matches.
const FRAGMENTS: [&str; 32] = [
    "a",
    "@",
    "b.com",
    ".",
    "-",
    " ",
    "+1",
    "415",
    "555",
    "2671",
    "(",
    ")",
    "4111",
    "1111",
    ":",
    "::",
    "fe80",
    "10.0",
    "1",
    "sk-",
    "eyJh",
    "DE89",
    "3704",
    "Bearer ",
    "é",
    "日",
    "'",
    "_",
    "078-05",
    "\n",
    "E-",
    "x1y2z3w4v5u6t7s8r9q0",
];

proptest! {
    #[test]
    fn any_cut_of_any_text_gives_the_same(pieces in prop::collection::vec(prop::sample::select(&FRAGMENTS), 0..24)) {
        let rules = rules(&[("employee", r"\bE-\d+"), ("run", r"[a-z1]+\.é"), ("wide", "日[^ ]*1")]);
        let whole = mask(&rules, &[&pieces.concat()]);
        prop_assert_eq!(&mask(&rules, &pieces), &whole);
        let text = pieces.concat();
        let characters: Vec<&str> = text.split("").collect();
        prop_assert_eq!(&mask(&rules, &characters), &whole);
    }

    #[test]
    fn what_is_masked_stays_masked(pieces in prop::collection::vec(prop::sample::select(&FRAGMENTS), 0..24)) {
        // The mask itself is never a match: a second run over the whole changes at most what the first one bordered on.
        let rules = rules(&[]);
        let once = mask(&rules, &[&pieces.concat()]);
        prop_assert!(mask(&rules, &[&once]).len() <= once.len() + 64);
    }

    #[test]
    fn nothing_panics(text in any::<String>()) {
        mask(&rules(&[("any", r"[^a]\w+$")]), &[&text]);
    }
}
