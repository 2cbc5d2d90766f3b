//! One statement and its values: what a method of the store asks of the server, in one round trip.
//!
//! Statements are sent with the types of their values and are never prepared under a name, so that a connection
//! keeps nothing between two of them and a pooler may hand it to somebody else.

use tokio_postgres::types::{ToSql, Type};

/// A statement, made again as it is where the server asks for that.
pub(super) struct Statement {
    /// With `quotum.` for the schema, whatever that is called.
    pub(super) sql: String,
    pub(super) values: Vec<(Box<dyn Value>, Type)>,
    /// Whether it changes something, so that it matters whether it was made.
    pub(super) writes: bool,
}

impl Statement {
    /// A statement that only reads.
    pub(super) fn reading(sql: &str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), writes: false }
    }

    /// A statement that may change something.
    pub(super) fn writing(sql: &str) -> Self {
        Self { writes: true, ..Self::reading(sql) }
    }

    /// The call of a function of the schema. Its arguments follow, in order.
    pub(super) fn calling(function: &str) -> Self {
        Self::writing(&format!("SELECT * FROM quotum.{function}("))
    }

    /// With the next value.
    pub(super) fn with<T: Typed + Value>(mut self, value: T) -> Self {
        self.values.push((Box::new(value), T::TYPE));
        self
    }

    /// The text for the server, with the schema's own name.
    pub(super) fn text(&self, schema: &str) -> String {
        let mut text = self.sql.replace("quotum.", &format!("{schema}."));
        if text.ends_with('(') {
            let places: Vec<String> = (1..=self.values.len()).map(|number| format!("${number}")).collect();
            text.push_str(&places.join(", "));
            text.push(')');
        }
        text
    }
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
