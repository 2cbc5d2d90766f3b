//! The scripts, and one call of one of them: what a method of the store asks of the server.

use std::sync::LazyLock;

use jiff::Timestamp;

use crate::store::StoreError;
use crate::store::effect::Effect;
use crate::store::turns::Turn;

/// A script as the server has it.
pub(super) struct Script {
    text: String,
    /// The SHA-1 of the text, under which the server keeps it.
    name: String,
}

impl Script {
    fn of(parts: &[&str]) -> Self {
        let text = parts.concat();
        let name = redis::Script::new(&text).get_hash().to_owned();
        Self { text, name }
    }
}

macro_rules! scripts {
    ($($name:ident: $($part:literal)+;)*) => {$(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::of(&[$(include_str!(concat!("scripts/", $part, ".lua"))),+]));
    )*};
}

scripts! {
    CHARGE: "plain_charge" "clock" "account" "holds" "steps" "charge";
    HOLD: "clock" "account" "holds" "steps" "hold";
    SETTLE: "clock" "account" "holds" "settle";
    LEASE: "clock" "account" "holds" "steps" "lease";
    BALANCES: "clock" "account" "holds" "steps" "balances";
    ADJUST: "clock" "account" "holds" "steps" "log" "adjust";
    RATE: "clock" "rate";
    RECORD: "clock" "log" "record";
    EVENTS: "clock" "events";
    PUT_PLANS: "clock" "log" "put_plans";
    PUT_SUBSCRIPTION: "clock" "log" "put_subscription";
    SUBSCRIBERS: "clock" "subscribers";
    IDENTITY: "clock" "identity";
    PUT_IDENTITY: "clock" "identities" "put_identity";
    FORGET_IDENTITIES: "clock" "log" "identities" "forget_identities";
    OPEN: "clock" "open";
    OUTBOX: "clock" "outbox";
    MOVE: "clock" "log" "move";
    NOTE: "clock" "note";
    NOTED: "clock" "noted";
}

/// One call of a script, or one plain command, made again as it is where the server has not done it.
#[derive(Clone)]
pub(super) struct Step {
    script: Option<&'static Script>,
    name: &'static str,
    keys: Vec<String>,
    now_ms: i64,
    values: Vec<Vec<u8>>,
    /// Where the turns of its account are, if it is known by its turn: what is kept of its asker is then the last of its
    /// keys, and the turn the first of its values.
    turns: Option<String>,
    pub(super) effect: Effect,
}

impl Step {
    /// A call of a script that may change something, at this time.
    pub(super) fn of(script: &'static Script, now: Timestamp, keys: Vec<String>) -> Self {
        Self {
            script: Some(script),
            name: "",
            keys,
            now_ms: now.as_millisecond(),
            values: Vec::new(),
            turns: None,
            effect: Effect::Each,
        }
    }

    /// A call of a script that only reads, or of which it does not matter how often it is made.
    pub(super) fn reading(script: &'static Script, now: Timestamp, keys: Vec<String>) -> Self {
        Self { effect: Effect::None, ..Self::of(script, now, keys) }
    }

    /// A command that is no script. It may be made any number of times.
    pub(super) fn command(name: &'static str, key: String) -> Self {
        Self { script: None, name, keys: vec![key], now_ms: 0, values: Vec::new(), turns: None, effect: Effect::None }
    }

    /// A step that the server knows by a name when it comes again.
    pub(super) fn named(self) -> Self {
        Self { effect: Effect::Named, ..self }
    }

    /// A step that the server knows by its turn when it comes again, among those of its account.
    pub(super) fn in_turn(self, turns: String) -> Self {
        Self { turns: Some(turns), effect: Effect::InTurn, ..self }
    }

    /// With the next value.
    pub(super) fn with(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// With a number as the next value.
    pub(super) fn with_number(self, number: impl Into<i128>) -> Self {
        self.with(number.into().to_string())
    }

    /// With a time as the next value.
    pub(super) fn with_time(self, time: Timestamp) -> Self {
        self.with_number(time.as_millisecond())
    }

    /// With one more key.
    pub(super) fn on(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    /// With more keys, and with where the first of them is among all.
    pub(super) fn on_all(mut self, keys: Vec<String>) -> (Self, usize) {
        let first = self.keys.len() + 1;
        self.keys.extend(keys);
        (self, first)
    }

    /// The command for the server: by the script's name, or with its text where the server has forgotten it.
    pub(super) fn as_command(&self, with_text: bool, by_server_time: bool, turn: Option<&Turn<'_>>) -> redis::Cmd {
        let Some(script) = self.script else {
            let mut command = redis::cmd(self.name);
            command.arg(&self.keys).arg(&self.values);
            return command;
        };
        let mut command = redis::cmd(if with_text { "EVAL" } else { "EVALSHA" });
        command.arg(if with_text { &script.text } else { &script.name });
        let asked = turn.zip(self.turns.as_ref()).map(|(turn, turns)| format!("{turns}:{}", turn.asker));
        command.arg(self.keys.len() + usize::from(asked.is_some())).arg(&self.keys).arg(asked);
        command.arg(self.now_ms).arg(if by_server_time { "1" } else { "0" });
        if let Some(turn) = turn {
            command.arg("turn").arg(turn.seat).arg(turn.number).arg(turn.mark).arg(if turn.is_again {
                "1"
            } else {
                "0"
            });
        }
        command.arg(&self.values);
        command
    }
}

/// A value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| super::failure::damaged("a value", &error))
}
