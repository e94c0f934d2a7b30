//! Names inside trees, back from how Go's `strconv.Quote` wrote them.

/// The name's bytes; nothing for what `strconv.Unquote` would not take.
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    if !text.contains('\\') {
        return Some(text.as_bytes().to_vec());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let sign = *bytes.get(at + 1)?;
        at += 2;
        match sign {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b't' => out.push(9),
            b'n' => out.push(10),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'r' => out.push(13),
            b'"' | b'\\' | b'\'' => out.push(sign),
            b'x' => {
                out.push(number(bytes, at, 2, 16)? as u8);
                at += 2;
            }
            b'u' | b'U' => {
                let digits = if sign == b'u' { 4 } else { 8 };
                let character = char::from_u32(number(bytes, at, digits, 16)?)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                at += digits;
            }
            b'0'..=b'7' => {
                out.push(u8::try_from(number(bytes, at - 1, 3, 8)?).ok()?);
                at += 2;
            }
            _ => return None,
        }
    }
    Some(out)
}

fn number(bytes: &[u8], at: usize, digits: usize, base: u32) -> Option<u32> {
    bytes
        .get(at..at + digits)?
        .iter()
        .try_fold(0u32, |sum, digit| {
            Some(sum * base + (*digit as char).to_digit(base)?)
        })
}
