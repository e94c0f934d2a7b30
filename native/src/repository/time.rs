//! Times as Go's JSON writes and reads them: RFC 3339 with up to nine digits of fraction, trailing zeros dropped.

use std::fmt::Write;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::decode::time_object;
use super::tree::nanoseconds;

const FIRST_SECOND: i128 = -62_167_219_200; // year 0
const LAST_SECOND: i128 = 253_402_300_799; // year 9999
const BILLION: i128 = 1_000_000_000;

/// Year, month and day of a day number since 1970, in the proleptic Gregorian calendar, counted from March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day number since 1970 of a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A moment given in nanoseconds since 1970, in UTC; outside the years 0 to 9999 the nearest second within.
pub fn push_time(nanoseconds: i128, text: &mut String) {
    let fraction = nanoseconds.rem_euclid(BILLION);
    let seconds = nanoseconds
        .div_euclid(BILLION)
        .clamp(FIRST_SECOND, LAST_SECOND) as i64;
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    if fraction > 0 {
        let digits = format!("{fraction:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
}

/// Nanoseconds since 1970, nothing for what is not such a time.
pub fn parse_time(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0i64, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let sign = |at: usize, expected: u8| bytes.get(at) == Some(&expected);
    if !(sign(4, b'-') && sign(7, b'-') && (sign(10, b'T')) && sign(13, b':') && sign(16, b':')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    if !(1..=12).contains(&month)
        || !(1..=longest[month as usize - 1]).contains(&day)
        || hour > 23
        || minute > 59
    {
        return None;
    }
    let mut at = 19;
    let mut fraction = 0i128;
    if sign(at, b'.') {
        let start = at + 1;
        at = start;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let digits = at - start;
        if digits == 0 || digits > 9 {
            return None;
        }
        fraction = i128::from(number(start, at)?) * 10i128.pow(9 - digits as u32);
    }
    let offset = match bytes.get(at)? {
        b'Z' if bytes.len() == at + 1 => 0,
        direction @ (b'+' | b'-') if bytes.len() == at + 6 && sign(at + 3, b':') => {
            let minutes = number(at + 1, at + 3)? * 60 + number(at + 4, at + 6)?;
            if *direction == b'-' {
                -minutes * 60
            } else {
                minutes * 60
            }
        }
        _ => return None,
    };
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(i128::from(seconds) * BILLION + fraction)
}

/// A moment given in nanoseconds since 1970, in UTC.
#[pyfunction]
pub fn format_ns(moment: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut text = String::with_capacity(30);
    push_time(nanoseconds(moment)?, &mut text);
    Ok(text)
}

/// Nanoseconds since 1970. Raises ValueError.
#[pyfunction]
pub fn parse_ns<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    match parse_time(text) {
        Some(moment) => time_object(py, moment),
        None => {
            let shown: String = text.chars().take(60).collect();
            Err(PyValueError::new_err(format!("not a time: {shown:?}")))
        }
    }
}
