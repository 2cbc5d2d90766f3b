//! One statement and its values: what a method of the store asks of the server, in one round trip.
//!
//! Statements are sent with the types of their values and are not prepared under a name, unless that is asked for, so
//! that a connection keeps nothing between two of them and a pooler may hand it to somebody else.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::failure::damaged;
use super::hosted::Uuid;
use crate::store::effect::Effect;
use crate::store::turns::Turn;
use crate::store::{StoreError, StoreTime};

/// The server's time at a statement, in milliseconds.
const SERVER_MS: &str = "(extract(epoch FROM statement_timestamp()) * 1000)::int8";

/// A statement, made again as it is where the server asks for that.
pub(super) struct Statement {
    /// With `quotum.` for the schema, whatever that is called; `@3` for the third value where that is a time; and
    /// `@shift` for how much times that are returned are to be moved back.
    sql: String,
    values: Vec<Given>,
    /// The time that the step was told, in milliseconds.
    now_ms: i64,
    /// Whether the text is the host's, and sent as it is.
    is_hosted: bool,
    /// A turn, where that is what it is known by, is its last values.
    pub(super) effect: Effect,
}

/// A value of a statement.
enum Given {
    Plain(Box<dyn Value>, Type),
    /// A time, as it was told and as so much later than now.
    Time {
        told_ms: Option<i64>,
        later_ms: Option<i64>,
    },
}

impl Statement {
    /// A statement that only reads.
    pub(super) fn reading(sql: &str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), now_ms: 0, is_hosted: false, effect: Effect::None }
    }

    /// A statement that may change something.
    pub(super) fn writing(sql: &str) -> Self {
        Self { effect: Effect::Each, ..Self::reading(sql) }
    }

    /// A statement of the host's, which is to read only.
    pub(super) fn hosted(sql: &str) -> Self {
        Self { is_hosted: true, ..Self::reading(sql) }
    }

    /// The call of a function of the schema. Its arguments follow, in order.
    pub(super) fn calling(function: &str) -> Self {
        Self::writing(&format!("SELECT * FROM quotum.{function}("))
    }

    /// The call of a function whose first argument is the time.
    pub(super) fn stepping(function: &str, now: Timestamp) -> Self {
        Self::writing(&format!("SELECT *, @shift FROM quotum.{function}(")).at(now).with_time(Some(now))
    }

    /// A step that is told that it is now this time.
    pub(super) fn at(self, now: Timestamp) -> Self {
        Self { now_ms: now.as_millisecond(), ..self }
    }

    /// A step that the server knows when it comes again.
    pub(super) fn once(self, is_named: bool) -> Self {
        Self { effect: if is_named { Effect::Named } else { Effect::InTurn }, ..self }
    }

    /// With the next value.
    pub(super) fn with<T: Typed + Value>(mut self, value: T) -> Self {
        self.values.push(Given::Plain(Box::new(value), T::TYPE));
        self
    }

    /// With a time as the next value, by the clock that says what is now.
    pub(super) fn with_time(mut self, time: Option<Timestamp>) -> Self {
        let told_ms = time.map(Timestamp::as_millisecond);
        let later_ms = told_ms.map(|told_ms| told_ms.saturating_sub(self.now_ms));
        self.values.push(Given::Time { told_ms, later_ms });
        self
    }

    /// The text for the server, with the schema's own name.
    pub(super) fn text(&self, schema: &str, time: StoreTime) -> String {
        if self.is_hosted {
            return self.sql.clone();
        }
        let mut text = self.sql.replace("quotum.", &format!("{schema}."));
        let place = |(index, given): (usize, &Given)| match (given, time) {
            (Given::Time { .. }, StoreTime::Server) => format!("{SERVER_MS} + ${}", index + 1),
            _ => format!("${}", index + 1),
        };
        let turn = (0..self.turn_values()).map(|index| format!("${}", self.values.len() + index + 1));
        let places: Vec<String> = self.values.iter().enumerate().map(place).chain(turn).collect();
        text = text.replace("@shift", &self.shift(time));
        if text.ends_with('(') {
            text.push_str(&places.join(", "));
            text.push(')');
        } else {
            for (index, place) in places.iter().enumerate() {
                text = text.replace(&format!("@{}", index + 1), place);
            }
        }
        text
    }

    fn shift(&self, time: StoreTime) -> String {
        match time {
            // The last value.
            StoreTime::Server => format!("{SERVER_MS} - ${} AS shift", self.values.len() + self.turn_values() + 1),
            StoreTime::Told => "0::int8 AS shift".to_owned(),
        }
    }

    const fn turn_values(&self) -> usize {
        if matches!(self.effect, Effect::InTurn) { TURN } else { 0 }
    }

    /// The values for the server, and their types.
    pub(super) fn values<'v>(
        &'v self,
        time: StoreTime,
        turn: Option<&'v TurnValues>,
    ) -> Vec<(&'v (dyn ToSql + Sync), Type)> {
        let shift = (time == StoreTime::Server && self.sql.contains("@shift")).then_some(&self.now_ms as _);
        self.values
            .iter()
            .map(|given| given.value(time))
            .chain(turn.into_iter().flat_map(TurnValues::values))
            .chain(shift.map(|now_ms| (now_ms, Type::INT8)))
            .collect()
    }
}

/// A turn as the server is told of it.
pub(super) struct TurnValues {
    asker: Bytes,
    seat: i64,
    number: i64,
    mark: i64,
    is_again: bool,
}

/// How many values a turn is.
const TURN: usize = 5;

impl TurnValues {
    pub(super) fn of(turn: &Turn<'_>) -> Self {
        let (asker, mark) = (Bytes::of(turn.asker.to_bytes()), turn.mark.cast_signed());
        Self { asker, seat: turn.seat.into(), number: turn.number.into(), mark, is_again: turn.is_again }
    }

    fn values(&self) -> [(&(dyn ToSql + Sync), Type); TURN] {
        [
            (&self.asker, Type::BYTEA),
            (&self.seat, Type::INT8),
            (&self.number, Type::INT8),
            (&self.mark, Type::INT8),
            (&self.is_again, Type::BOOL),
        ]
    }
}

impl Given {
    fn value(&self, time: StoreTime) -> (&(dyn ToSql + Sync), Type) {
        match (self, time) {
            (Self::Plain(value, kind), _) => (value_of(&**value), kind.clone()),
            (Self::Time { later_ms, .. }, StoreTime::Server) => (later_ms, Type::INT8),
            (Self::Time { told_ms, .. }, StoreTime::Told) => (told_ms, Type::INT8),
        }
    }
}

fn value_of(value: &dyn Value) -> &(dyn ToSql + Sync) {
    value
}

/// How much later the server's clock is than the one that the step was told the time of, from a row with `@shift`.
pub(super) fn shift_ms(row: &Row) -> Result<i64, StoreError> {
    row.try_get("shift").map_err(|error| damaged("a step's time", &error))
}

/// What can be sent to the server from another thread.
pub(super) trait Value: ToSql + Send + Sync {}

impl<T: ToSql + Send + Sync> Value for T {}

/// A value whose type the server is told.
pub(super) trait Typed: 'static {
    const TYPE: Type;
}

macro_rules! typed {
    ($($value:ty: $single:ident, $many:ident;)*) => {$(
        impl Typed for $value { const TYPE: Type = Type::$single; }
        impl Typed for Option<$value> { const TYPE: Type = Type::$single; }
        impl Typed for Vec<$value> { const TYPE: Type = Type::$many; }
        impl Typed for Vec<Option<$value>> { const TYPE: Type = Type::$many; }
    )*};
}

typed! {
    i64: INT8, INT8_ARRAY;
    i32: INT4, INT4_ARRAY;
    bool: BOOL, BOOL_ARRAY;
    String: TEXT, TEXT_ARRAY;
    &'static str: TEXT, TEXT_ARRAY;
    Bytes: BYTEA, BYTEA_ARRAY;
    Uuid: UUID, UUID_ARRAY;
}

/// Bytes, or the UTF-8 of a text that a host has chosen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Bytes {
    pub(super) fn of(text: impl AsRef<[u8]>) -> Self {
        Self(text.as_ref().to_vec())
    }
}

impl ToSql for Bytes {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <Vec<u8> as ToSql>::accepts(ty)
    }

    tokio_postgres::types::to_sql_checked!();
}
