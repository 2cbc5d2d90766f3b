//! Rules about identities.

use super::{Broken, Case, NOW_S, time};
use crate::event::{Event, EventName, EventQuery};
use crate::store::{Forgotten, KeptIdentity};
use crate::token::{Identity, TokenDigest};

fn kept(subject: &str, seconds: i64) -> KeptIdentity {
    let identity = Identity::of(subject).expiring_at(time(NOW_S + 500)).with_attribute("role", "admin");
    KeptIdentity { identity, until: time(NOW_S + seconds) }
}

fn forgotten() -> Event {
    Event::new(EventName::TokenForgotten, time(NOW_S))
}

pub(super) async fn an_identity_is_kept_until_its_time(case: &Case) -> Result<(), Broken> {
    let (ana, bob) = (TokenDigest::of("ana's"), TokenDigest::of("bob's"));
    expect_eq!(case.store.identity(case.call(), &ana).await?, None, "before it is put");
    case.store.put_identity(case.call(), &ana, &kept("ana", 60), 0).await?;
    expect_eq!(case.store.identity(case.later(59), &ana).await?, Some(kept("ana", 60)), "in time");
    expect_eq!(case.store.identity(case.later(60), &ana).await?, None, "after its time");
    expect_eq!(case.store.identity(case.call(), &bob).await?, None, "another token");
    case.store.put_identity(case.call(), &ana, &kept("eve", 90), 0).await?;
    expect_eq!(case.store.identity(case.later(60), &ana).await?, Some(kept("eve", 90)), "put again");
    Ok(())
}

pub(super) async fn identities_are_forgotten_by_token_and_by_subject(case: &Case) -> Result<(), Broken> {
    let tokens = ["one", "two", "three"].map(TokenDigest::of);
    for (token, subject) in tokens.iter().zip(["ana", "ana", "bob"]) {
        case.store.put_identity(case.call(), token, &kept(subject, 60), 0).await?;
    }
    let [one, two, three] = &tokens;
    case.store.forget_identities(case.call(), &Forgotten::Token(*one), &forgotten()).await?;
    expect_eq!(case.store.identity(case.call(), one).await?, None, "the token");
    expect_eq!(case.store.identity(case.call(), two).await?.is_some(), true, "another of the subject");
    case.store.forget_identities(case.call(), &Forgotten::Subject("ana".into()), &forgotten()).await?;
    expect_eq!(case.store.identity(case.call(), two).await?, None, "a token of the subject");
    expect_eq!(case.store.identity(case.call(), three).await?.is_some(), true, "one of another subject");
    expect_eq!(case.store.events(case.call(), &EventQuery::changes()).await?.len(), 2, "both are logged");
    Ok(())
}

pub(super) async fn an_identity_found_before_a_revocation_is_not_kept_after_it(case: &Case) -> Result<(), Broken> {
    let token = TokenDigest::of("ana's");
    case.store.forget_identities(case.call(), &Forgotten::Token(token), &forgotten()).await?;
    case.store.put_identity(case.call(), &token, &kept("ana", 60), 0).await?;
    expect_eq!(case.store.identity(case.call(), &token).await?, None, "found before");
    let changes = case.store.events(case.call(), &EventQuery::changes()).await?;
    let followed = changes.last().map_or(0, |event| event.sequence);
    case.store.put_identity(case.call(), &token, &kept("ana", 60), followed).await?;
    expect_eq!(case.store.identity(case.call(), &token).await?.is_some(), true, "found afterwards");
    Ok(())
}
