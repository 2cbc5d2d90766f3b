//! Users, sessions and API keys: a table in memory, which stands for the backend's own.
//!
//! No token is kept: only the digest under which Quotum's token cache knows it too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use quotum::token::{Identity, Pepper, Secret, TokenDigest, Verifier, async_verifier};
use quotum::{Clock, Timestamp};

/// What an API key begins with, so that people see what it is, and `asks.rs` that it needs a plan with keys.
pub(crate) const KEY_PREFIX: &str = "jp_";

const SESSION_PREFIX: &str = "session_";

const SESSION_LIFE: Duration = Duration::from_secs(12 * 3_600);

/// Everybody who may come in. A user's id is its e-mail address in small letters.
#[derive(Debug)]
pub(crate) struct Users {
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    users: BTreeMap<String, Password>,
    tokens: BTreeMap<TokenDigest, Identity>,
}

/// A backend hashes passwords slowly, by argon2 say; the example shows quotas, and does with a salted digest.
#[derive(Debug)]
struct Password {
    salt: Pepper,
    digest: TokenDigest,
}

impl Password {
    fn new(password: &str) -> Result<Self> {
        let salt = Pepper::new(&*random("")?)?;
        Ok(Self { digest: salt.digest(password), salt })
    }

    fn is(&self, password: &str) -> bool {
        self.salt.digest(password) == self.digest
    }
}

impl Users {
    pub(crate) fn with_admins(clock: Arc<dyn Clock>, admins: &[(String, String)]) -> Self {
        let admin = |(name, token): &(String, String)| {
            (TokenDigest::of(token), Identity::of(format!("admin:{name}")).with_attribute("role", "admin"))
        };
        let table = Table { tokens: admins.iter().map(admin).collect(), ..Table::default() };
        Self { clock, table: Mutex::new(table) }
    }

    /// Finds out whom a token speaks for: what Quotum asks when its cache does not know.
    pub(crate) fn verifier(users: &Arc<Self>) -> impl Verifier {
        let users = Arc::clone(users);
        async_verifier(move |token: Secret| {
            let found = users.table.lock().tokens.get(&TokenDigest::of(&token)).cloned();
            std::future::ready(Ok(found))
        })
    }

    /// A new user's API key; `None` where there is such a user already.
    pub(crate) fn register(&self, id: &str, password: &str) -> Result<Option<String>> {
        let (password, key) = (Password::new(password)?, random(KEY_PREFIX)?);
        let mut table = self.table.lock();
        if table.users.contains_key(id) {
            return Ok(None);
        }
        table.users.insert(id.to_owned(), password);
        table.tokens.insert(TokenDigest::of(&key), Identity::of(id));
        Ok(Some(key))
    }

    /// The token of a new session; `None` where user and password do not belong together.
    pub(crate) fn log_in(&self, id: &str, password: &str) -> Result<Option<String>> {
        let token = random(SESSION_PREFIX)?;
        let mut table = self.table.lock();
        if !table.users.get(id).is_some_and(|known| known.is(password)) {
            return Ok(None);
        }
        let now = self.clock.wall();
        let until = now.checked_add(SESSION_LIFE).unwrap_or(Timestamp::MAX);
        table.tokens.retain(|_, identity| !identity.has_expired(now));
        table.tokens.insert(TokenDigest::of(&token), Identity::of(id).expiring_at(until));
        Ok(Some(token))
    }

    /// Forgets a user and all of its tokens.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut table = self.table.lock();
        table.tokens.retain(|_, identity| *identity.subject != *id);
        table.users.remove(id).is_some()
    }
}

/// Sixteen random bytes, in hexadecimal digits, after a prefix.
fn random(prefix: &str) -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(bytes.iter().fold(prefix.to_owned(), |token, byte| token + &format!("{byte:02x}")))
}
