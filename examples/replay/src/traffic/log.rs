//! The common and combined log formats of [Apache] and nginx.
//!
//! `host ident user [time] "request" status bytes`, and for combined also `"referer" "agent"`.
//!
//! [Apache]: https://httpd.apache.org/docs/2.4/logs.html#accesslog

use anyhow::{Context, Result, bail};

#[derive(Debug)]
pub(crate) struct LogLine {
    ip: String,
    user: String,
    time: String,
    method: String,
    path: String,
    status: String,
    bytes: String,
    referer: String,
    agent: String,
}

/// The names by which a mapping can refer to the fields of a log line.
pub(crate) const FIELDS: [&str; 9] = ["ip", "user", "time", "method", "path", "status", "bytes", "referer", "agent"];

impl LogLine {
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let mut rest = line;
        let ip = word(&mut rest).context("expected a client address")?;
        let _ident = word(&mut rest).context("expected an ident or -")?;
        let user = word(&mut rest).context("expected a user or -")?;
        let time = enclosed(&mut rest, '[', ']').context("expected a [time]")?;
        let request = enclosed(&mut rest, '"', '"').context("expected a \"request\"")?;
        let status = word(&mut rest).filter(|text| is_number(text)).context("expected a status")?;
        let bytes = word(&mut rest).filter(|text| *text == "-" || is_number(text)).context("expected a size or -")?;
        let (referer, agent) = match rest.trim() {
            "" => (String::new(), String::new()),
            _ => {
                let referer = enclosed(&mut rest, '"', '"').context("expected a \"referer\"")?;
                (referer, enclosed(&mut rest, '"', '"').context("expected an \"agent\"")?)
            }
        };
        // A client may send anything in place of a request; the line is still one.
        let mut parts = request.splitn(3, ' ');
        let (method, path) = match (parts.next(), parts.next(), parts.next()) {
            (Some(method), Some(path), Some(_protocol)) => (method.to_owned(), path.to_owned()),
            _ => (String::new(), request.clone()),
        };
        Ok(Self {
            ip: ip.to_owned(),
            user: user.to_owned(),
            time,
            method,
            path,
            status: status.to_owned(),
            bytes: if bytes == "-" { "0".to_owned() } else { bytes.to_owned() },
            referer,
            agent,
        })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        Some(match name {
            "ip" => &self.ip,
            "user" => &self.user,
            "time" => &self.time,
            "method" => &self.method,
            "path" => &self.path,
            "status" => &self.status,
            "bytes" => &self.bytes,
            "referer" => &self.referer,
            "agent" => &self.agent,
            _ => return None,
        })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes the text up to the next space.
fn word<'l>(rest: &mut &'l str) -> Option<&'l str> {
    let text = rest.trim_start();
    let (word, after) = text.split_once(' ').unwrap_or((text, ""));
    *rest = after;
    Some(word).filter(|word| !word.is_empty())
}

/// Takes the text between two signs; a backslash takes the sign after it for text.
fn enclosed(rest: &mut &str, open: char, close: char) -> Result<String> {
    let text = rest.trim_start();
    let Some(text) = text.strip_prefix(open) else { bail!("found {:?}", text.chars().take(20).collect::<String>()) };
    let mut inside = String::new();
    let mut escaped = false;
    for (at, sign) in text.char_indices() {
        if sign == close && !escaped {
            *rest = text.get(at + close.len_utf8()..).unwrap_or_default();
            return Ok(inside);
        }
        escaped = sign == '\\' && !escaped;
        if !escaped {
            inside.push(sign);
        }
    }
    bail!("found no closing {close}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_and_common_lines_are_read() {
        let combined = r#"83.149.9.216 - frank [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 203023 "http://x/" "Mozilla \"5\" (X)""#;
        let line = LogLine::parse(combined).unwrap();
        let fields = FIELDS.map(|name| line.field(name).unwrap());
        let expected = [
            "83.149.9.216",
            "frank",
            "17/May/2015:10:05:03 +0000",
            "GET",
            "/a?b=c",
            "200",
            "203023",
            "http://x/",
            "Mozilla \"5\" (X)",
        ];
        assert_eq!(fields, expected);

        let common = r#"::1 - - [17/May/2015:10:05:03 +0000] "\x16\x03" 400 -"#;
        let line = LogLine::parse(common).unwrap();
        assert_eq!(line.field("ip"), Some("::1"));
        assert_eq!(line.field("bytes"), Some("0"));
        assert_eq!(line.field("method"), Some(""));
    }

    #[test]
    fn what_is_no_log_line_is_refused() {
        let bad = [
            "hello",
            "1.2.3.4 - -",
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000 "GET / HTTP/1.1" 200 1"#,
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1 200 1"#,
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" ok 1"#,
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 many"#,
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "http"#,
        ];
        for line in bad {
            assert!(LogLine::parse(line).is_err(), "{line}");
        }
    }
}
