//! International bank account numbers: country, the length it has there, and the check digits; in one piece or in
//! groups of four.

use crate::window::{Miss, Window, end_of_word};

/// The characters of an account number, by country.
///
/// Source: SWIFT, IBAN registry, release 99.
const LENGTHS: &[u8] = b"AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29\
ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25\
MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25\
SV28TL23TN24TR26UA29VA22VG24XK20YE30";

const CHARACTERS_MAX: usize = 34;

pub(super) fn find(window: Window<'_>) -> Result<usize, Miss> {
    let mut number = Vec::with_capacity(CHARACTERS_MAX);
    let mut len = 2;
    let mut at = 0;
    while number.len() < len {
        match window.at(at)? {
            Some(byte) if byte.is_ascii_alphanumeric() => number.push(byte.to_ascii_uppercase()),
            Some(b' ') if is_group_end(&number) && window.text().as_bytes()[at - 1] != b' ' => {}
            _ => return Err(Miss::Never),
        }
        at += 1;
        if len == 2 && number.len() == 2 {
            len = length(&number).ok_or(Miss::Never)?;
        }
        if matches!(number.len(), 3 | 4) && !number[2..].iter().all(u8::is_ascii_digit) {
            return Err(Miss::Never);
        }
    }
    if remainder(&number) != 1 {
        return Err(Miss::Never);
    }
    end_of_word(window.at(at)?)?;
    Ok(at)
}

fn is_group_end(number: &[u8]) -> bool {
    !number.is_empty() && number.len().is_multiple_of(4)
}

fn length(country: &[u8]) -> Option<usize> {
    let entry = LENGTHS.chunks_exact(4).find(|entry| entry.starts_with(country))?;
    Some(usize::from(entry[2] - b'0') * 10 + usize::from(entry[3] - b'0'))
}

/// Source: ISO 13616-1, ISO/IEC 7064 (MOD 97-10): the first four characters go to the end, letters count from 10.
fn remainder(number: &[u8]) -> u32 {
    let (head, rest) = number.split_at(4);
    rest.iter().chain(head).fold(0, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    })
}
