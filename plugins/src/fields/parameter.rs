//! Parameters behind the value of a header: `multipart/form-data; boundary="x"`.

/// It cannot be told what the parameter is.
#[derive(Debug)]
pub(super) struct Ambiguous;

/// The parameter of that name, whose case does not count.
pub(super) fn find(header: &[u8], name: &str) -> Result<Option<Vec<u8>>, Ambiguous> {
    let mut found = None;
    let start = header
        .iter()
        .position(|byte| *byte == b';')
        .unwrap_or(header.len());
    let mut rest = header.get(start..).unwrap_or_default();
    while let Some(parameter) = rest.strip_prefix(b";") {
        let parameter = parameter.trim_ascii_start();
        let key_end = parameter
            .iter()
            .position(|byte| matches!(byte, b'=' | b';'))
            .unwrap_or(parameter.len());
        let (key, after) = parameter.split_at_checked(key_end).ok_or(Ambiguous)?;
        let value;
        (value, rest) = match after.strip_prefix(b"=") {
            Some(text) => read_value(text)?,
            None => (Vec::new(), after),
        };
        rest = rest.trim_ascii_start();
        if key.eq_ignore_ascii_case(name.as_bytes()) && found.replace(value).is_some() {
            return Err(Ambiguous);
        }
    }
    if rest.is_empty() {
        Ok(found)
    } else {
        Err(Ambiguous)
    }
}

/// A token or a quoted string, and what follows it.
fn read_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Ambiguous> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text
            .iter()
            .position(|byte| *byte == b';')
            .unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).ok_or(Ambiguous)?;
        return Ok((value.trim_ascii_end().to_vec(), rest));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok((value, quoted.get(at + 1..).unwrap_or_default())),
            // Only these two are ever escaped; browsers send other backslashes as they are.
            b'\\' => match bytes.next_if(|(_, next)| matches!(next, b'"' | b'\\')) {
                Some((_, escaped)) => value.push(*escaped),
                None => value.push(b'\\'),
            },
            _ => value.push(*byte),
        }
    }
    Err(Ambiguous)
}
