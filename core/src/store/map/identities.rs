//! Identities: who tokens stand for, by their digests.

use serde::{Deserialize, Serialize};

use super::keys::{Key, text_of};
use super::transaction::{Transaction, damaged, unless_damaged};
use crate::store::{Forgotten, KeptIdentity, StoreError};
use crate::token::{Identity, TokenDigest};

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    identity: Identity,
    kept_until_ms: i64,
}

impl Transaction<'_> {
    pub(super) fn identity(&mut self, token: &TokenDigest) -> Result<Option<KeptIdentity>, StoreError> {
        let kept: Option<Kept> = self.get(&place(&token.to_hex()), "an identity")?;
        let Some(kept) = kept.filter(|kept| self.now.as_millisecond() < kept.kept_until_ms) else { return Ok(None) };
        let until = jiff::Timestamp::from_millisecond(kept.kept_until_ms);
        let until = until.map_err(|error| damaged("an identity", &error))?;
        Ok(Some(KeptIdentity { identity: kept.identity, until }))
    }

    pub(super) fn put_identity(
        &mut self,
        token: &TokenDigest,
        kept: &KeptIdentity,
        followed: u64,
    ) -> Result<(), StoreError> {
        if self.last_revocation()? > followed {
            return Ok(());
        }
        let token = token.to_hex();
        self.forget_identity(&place(&token), &token)?;
        let (identity, kept_until_ms) = (kept.identity.clone(), kept.until.as_millisecond());
        self.put(&of_subject(&identity.subject).text(&token), &true)?;
        self.put(&place(&token), &Kept { identity, kept_until_ms })?;
        self.look_later(&place(&token), kept_until_ms)
    }

    pub(super) fn forget_identities(&mut self, which: &Forgotten) -> Result<(), StoreError> {
        match which {
            Forgotten::Token(token) => self.forget_identity(&place(&token.to_hex()), &token.to_hex()),
            Forgotten::Subject(subject) => {
                let all = of_subject(subject);
                let mut found = Vec::new();
                self.walk(all.as_bytes(), &all.end(), |entry, _| {
                    found.push(entry.clone());
                    Ok(true)
                })?;
                for entry in found {
                    if let Some(token) = entry.parts().as_ref().and_then(|parts| text_of(parts.last()?)) {
                        self.delete(&place(token));
                    }
                    self.delete(&entry);
                }
                Ok(())
            }
        }
    }

    /// Forgets one token, with its entry among its subject's, as far as that can be read.
    pub(super) fn forget_identity(&mut self, place: &Key, token: &str) -> Result<(), StoreError> {
        if let Some(kept) = unless_damaged(self.get::<Kept>(place, "an identity"))?.flatten() {
            self.delete(&of_subject(&kept.identity.subject).text(token));
        }
        self.delete(place);
        Ok(())
    }
}

fn place(token: &str) -> Key {
    Key::of("identity").text(token)
}

fn of_subject(subject: &str) -> Key {
    Key::of("identity_of").text(subject)
}
