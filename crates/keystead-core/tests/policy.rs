//! Who may do what, as a table that a reviewer reads, and as rules that hold of all of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use keystead_core::action::{Action, Role, TargetKind};
use keystead_core::caller::{Caller, Filter, Scope};
use keystead_core::ids::{IntegrationId, KeyId, TenantId};
use keystead_core::policy::{Denial, Openings, Target, decide};
use proptest::prelude::*;
use uuid::Uuid;

const ACME: TenantId = TenantId::from_uuid(Uuid::from_u128(1));
const GLOBEX: TenantId = TenantId::from_uuid(Uuid::from_u128(2));
const KEY: KeyId = KeyId::from_uuid(Uuid::from_u128(3));
const MAIN: IntegrationId = IntegrationId::from_uuid(Uuid::from_u128(4));
const OTHER: IntegrationId = IntegrationId::from_uuid(Uuid::from_u128(5));

/// Things, and whose they are. `platform` marks what belongs to no customer.
const TARGETS: [(&str, TargetKind, TenantId); 10] = [
    ("integration", TargetKind::Integration, ACME),
    ("member", TargetKind::Member, ACME),
    ("tenant", TargetKind::Tenant, ACME),
    ("audit", TargetKind::Audit, ACME),
    ("provider", TargetKind::Provider, ACME),
    ("request", TargetKind::Request, ACME),
    (
        "platform integration",
        TargetKind::Integration,
        TenantId::PLATFORM,
    ),
    ("platform key", TargetKind::Key, TenantId::PLATFORM),
    ("platform tenant", TargetKind::Tenant, TenantId::PLATFORM),
    ("platform audit", TargetKind::Audit, TenantId::PLATFORM),
];

fn user(tenant: TenantId, role: Role) -> Caller {
    Caller::User {
        issuer: "dev".into(),
        subject: "alice".into(),
        tenant,
        role,
    }
}

fn service(tenant: Option<TenantId>, actions: &[Action]) -> Caller {
    let scope = Scope {
        actions: actions.iter().copied().collect(),
        providers: Filter::Any,
        integrations: Filter::Any,
    };
    Caller::Service {
        key: KEY,
        tenant,
        scopes: vec![scope],
    }
}

/// The columns: nobody, the roles, an owner of another tenant, keys of one action each, keys of
/// all actions (free, of this tenant, of another), an operator.
fn callers() -> Vec<(String, Option<Caller>)> {
    let mut callers = vec![("nobody".to_owned(), None)];
    for role in Role::ALL {
        callers.push((role.to_string(), Some(user(ACME, *role))));
    }
    callers.push(("stranger".into(), Some(user(GLOBEX, Role::Owner))));
    for action in Action::ALL {
        callers.push((format!("k:{action}"), Some(service(None, &[*action]))));
    }
    callers.push(("k:*".into(), Some(service(None, Action::ALL))));
    callers.push(("k:*@own".into(), Some(service(Some(ACME), Action::ALL))));
    callers.push(("k:*@other".into(), Some(service(Some(GLOBEX), Action::ALL))));
    callers.push(("operator".into(), Some(Caller::Operator { key: KEY })));
    callers
}

fn answer(
    caller: Option<&Caller>,
    action: Action,
    kind: TargetKind,
    tenant: TenantId,
) -> &'static str {
    let target = Target {
        kind,
        tenant,
        provider: Some("openai"),
        integration: Some(&MAIN),
    };
    match decide(caller, action, &target, &Openings::default()) {
        Ok(()) => "allow",
        Err(Denial::Unauthenticated) => "401",
        Err(Denial::OtherTenant) => "404",
        Err(Denial::Role | Denial::Scope | Denial::Kind) => "403",
    }
}

fn table() -> String {
    let callers = callers();
    let mut text = String::from(
        "# Who may do what, by default: each row a thing and an action, each column a caller.\n\
         # k:ACTION is a service key of that one action, k:* one of all; @own and @other are bound to a tenant.\n\
         # Made by tests/policy.rs; a changed line is a changed permission, to be reviewed as one.\n",
    );
    for (name, kind, tenant) in TARGETS {
        let _ = write!(text, "\n{name:<21}");
        for (caller, _) in &callers {
            let _ = write!(text, " {caller:<5}");
        }
        text.push('\n');
        for action in Action::ALL {
            let _ = write!(text, "  {:<19}", action.as_str());
            for (heading, caller) in &callers {
                let answer = answer(caller.as_ref(), *action, kind, tenant);
                let _ = write!(text, " {answer:<width$}", width = heading.len().max(5));
            }
            while text.ends_with(' ') {
                text.pop();
            }
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_table_of_permissions_is_the_one_that_was_reviewed() {
    let reviewed = include_str!("golden/authz.txt");
    let present = table();
    if present == reviewed {
        return;
    }
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/authz.txt");
    #[expect(
        clippy::disallowed_methods,
        reason = "a person is to take it from there"
    )]
    std::fs::write(path, &present).unwrap();
    let changed: Vec<String> = present
        .lines()
        .zip(reviewed.lines())
        .filter(|(present, reviewed)| present != reviewed)
        .map(|(present, reviewed)| format!("- {reviewed}\n+ {present}"))
        .collect();
    panic!(
        "who may do what has changed:\n{}\n\nIf a permission was not meant to change, mend policy.rs. \
         If it was, read the difference line by line, then take the new table over and commit it:\n\
         cp {path} crates/keystead-core/tests/golden/authz.txt",
        changed.join("\n")
    );
}

#[test]
fn nobody_but_a_service_reveals_unless_an_operator_opened_it() {
    for (_, kind, tenant) in TARGETS {
        for (name, caller) in callers() {
            let allowed = answer(caller.as_ref(), Action::Reveal, kind, tenant) == "allow";
            let is_service = matches!(caller, Some(Caller::Service { .. }));
            assert!(!allowed || is_service, "{name} may reveal");
        }
    }
    let openings = Openings {
        reveal_users: BTreeSet::from([Role::Owner]),
    };
    let target = |tenant| Target {
        kind: TargetKind::Integration,
        tenant,
        provider: Some("openai"),
        integration: Some(&MAIN),
    };
    let reveal = |role, tenant| {
        decide(
            Some(&user(ACME, role)),
            Action::Reveal,
            &target(tenant),
            &openings,
        )
    };
    assert_eq!(reveal(Role::Owner, ACME), Ok(()));
    assert_eq!(reveal(Role::Admin, ACME), Err(Denial::Kind));
    assert_eq!(reveal(Role::Owner, GLOBEX), Err(Denial::OtherTenant));
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(Action::ALL)
}

fn scope() -> impl Strategy<Value = Scope> {
    let providers = prop_oneof![
        Just(Filter::Any),
        prop::collection::btree_set(
            prop::sample::select(vec!["openai".to_owned(), "xai".into()]),
            0..3
        )
        .prop_map(Filter::Only),
    ];
    let integrations = prop_oneof![
        Just(Filter::Any),
        prop::collection::btree_set(prop::sample::select(vec![MAIN, OTHER]), 0..3)
            .prop_map(Filter::Only),
    ];
    let actions = prop::collection::btree_set(action(), 0..5);
    (actions, providers, integrations).prop_map(|(actions, providers, integrations)| Scope {
        actions,
        providers,
        integrations,
    })
}

/// A thing: kind, whose, of which provider, which one.
type Thing = (
    TargetKind,
    TenantId,
    Option<&'static str>,
    Option<IntegrationId>,
);

fn thing() -> impl Strategy<Value = Thing> {
    (
        prop::sample::select(TargetKind::ALL),
        prop::sample::select(vec![ACME, GLOBEX, TenantId::PLATFORM]),
        prop::sample::select(vec![None, Some("openai"), Some("xai")]),
        prop::sample::select(vec![None, Some(MAIN), Some(OTHER)]),
    )
}

fn openings() -> impl Strategy<Value = Openings> {
    // A role that is opened opens those above it, as a configuration would.
    prop::sample::select(vec![0, 1, 2, 4]).prop_map(|highest| Openings {
        reveal_users: Role::ALL.iter().rev().take(highest).copied().collect(),
    })
}

fn allows(caller: &Caller, action: Action, thing: &Thing, openings: &Openings) -> bool {
    let target = Target {
        kind: thing.0,
        tenant: thing.1,
        provider: thing.2,
        integration: thing.3.as_ref(),
    };
    decide(Some(caller), action, &target, openings).is_ok()
}

proptest! {
    #[test]
    fn a_higher_role_may_all_that_a_lower_one_may(
        action in action(), thing in thing(), openings in openings(), own in any::<bool>(),
    ) {
        let tenant = if own { thing.1 } else { ACME };
        let may: Vec<bool> = Role::ALL
            .iter()
            .map(|role| allows(&user(tenant, *role), action, &thing, &openings))
            .collect();
        prop_assert!(may.is_sorted(), "{action} on {thing:?}: {may:?}");
    }

    #[test]
    fn a_further_scope_takes_nothing_away(
        mut scopes in prop::collection::vec(scope(), 0..4), further in scope(), at in any::<prop::sample::Index>(),
        action in action(), thing in thing(), bound in prop::sample::select(vec![None, Some(ACME), Some(GLOBEX)]),
    ) {
        let key = |scopes: Vec<Scope>| Caller::Service { key: KEY, tenant: bound, scopes };
        let before = allows(&key(scopes.clone()), action, &thing, &Openings::default());
        scopes.insert(at.index(scopes.len() + 1), further);
        let after = allows(&key(scopes), action, &thing, &Openings::default());
        prop_assert!(!before || after);
    }

    #[test]
    fn a_key_without_a_scope_for_it_may_not(scopes in prop::collection::vec(scope(), 0..4), thing in thing(), action in action()) {
        let named = scopes.iter().any(|scope| scope.actions.contains(&action));
        let key = Caller::Service { key: KEY, tenant: None, scopes };
        let allowed = allows(&key, action, &thing, &Openings::default());
        prop_assert!(!allowed || named || thing.0 == TargetKind::Provider);
    }

    #[test]
    fn no_one_reaches_into_another_tenant(
        role in prop::sample::select(Role::ALL), scopes in prop::collection::vec(scope(), 0..4),
        action in action(), thing in thing(), openings in openings(),
    ) {
        prop_assume!(thing.1 != GLOBEX && thing.0 != TargetKind::Provider);
        prop_assert!(!allows(&user(GLOBEX, role), action, &thing, &openings));
        let key = Caller::Service { key: KEY, tenant: Some(GLOBEX), scopes };
        prop_assert!(!allows(&key, action, &thing, &openings));
    }
}

#[test]
fn a_scope_narrowed_to_some_integrations_reads_no_entries() {
    let target = Target {
        kind: TargetKind::Audit,
        tenant: ACME,
        provider: None,
        integration: None,
    };
    let read = |text: &str| {
        let caller = Caller::Service {
            key: KEY,
            tenant: None,
            scopes: vec![Scope::parse(text).unwrap()],
        };
        decide(Some(&caller), Action::Audit, &target, &Openings::default())
    };
    assert_eq!(read("audit"), Ok(()));
    assert_eq!(read("audit,info:*:*"), Ok(()));
    for narrow in [
        "audit:openai".to_owned(),
        format!("audit:*:{MAIN}"),
        format!("audit:openai:{MAIN}"),
    ] {
        assert_eq!(read(&narrow), Err(Denial::Scope), "{narrow}");
    }
}
