//! What pages say: one file a language, each with every text.
//!
//! What always holds: a text that is missing in a language does not compile; `{names}` that are
//! filled in are the same in all (a test compares them); texts hold no markup, and what is filled
//! in is escaped by the template that shows it.

mod en;
mod es;

pub(super) use en::EN;
pub(super) use es::ES;

macro_rules! texts {
    ($($name:ident)*) => {
        /// The texts of one language.
        pub(crate) struct Texts {
            $(pub(crate) $name: &'static str,)*
        }

        #[cfg(test)]
        impl Texts {
            fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

texts! {
    // every page
    skip language encrypted optional back reload

    // the link
    start_title start_as start_for start_lead start_once
    used_title used_text used_go_on
    gone_title gone_text
    bye_title bye_text bye_back
    return_title return_text return_go away_text

    // all connections
    home_title home_minutes home_none
    home_add home_add_lead home_none_to_add home_find home_find_button home_found_none home_all home_more
    home_done home_done_hint home_back_to

    // adding, and a new credential
    add_title add_button replace_title replace_button replace_lead
    add_name add_name_hint add_other_ways add_settings add_settings_more
    add_file add_file_or_text add_example add_where add_docs add_secret_hint
    add_oauth_lead add_oauth_button add_own_app add_own_app_lead add_no_app
    tab_title tab_text tab_go tab_after

    // what came of a consent
    consent_done consent_done_text consent_failed consent_refused consent_unknown consent_other

    // one connection
    one_provider one_key one_key_hint one_verified one_used one_made one_never
    one_test one_replace one_reconnect one_disable one_enable one_rename one_new_name one_remove one_actions
    remove_title remove_text remove_revoke remove_revoke_hint remove_by_hand remove_there remove_button remove_keep

    // statuses
    status_verifying status_connected status_error status_reauthorize status_disabled
    about_verifying about_connected about_error about_reauthorize about_disabled

    // what came of a test
    class_ok class_bad_key class_expired class_no_perm class_rate class_quota class_down class_indeterminate
    says tested

    // what was done
    did_added did_replaced did_renamed did_disabled did_enabled did_removed did_revoked did_connected
    odd_field old_field

    // what went wrong
    form_faults
    fault_required fault_white_space fault_control fault_name fault_duplicate fault_file
    fault_one_of fault_is
    oops_title oops_forged oops_not_found oops_denied oops_limited oops_too_large oops_slow oops_method
    oops_clash oops_unavailable oops_provider oops_other oops_request
}

/// Fills `{names}` in.
pub(crate) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('{') {
        filled.push_str(plain);
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        filled.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&str> {
        let parts = text.split('{').skip(1);
        let mut names: Vec<_> = parts
            .filter_map(|part| Some(part.split_once('}')?.0))
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_language_says_everything_with_the_same_values() {
        for ((name, english), (_, other)) in EN.all().into_iter().zip(ES.all()) {
            assert!(
                !english.trim().is_empty() && !other.trim().is_empty(),
                "{name}"
            );
            assert_eq!(names(english), names(other), "{name}");
            let is_word = english.chars().all(char::is_alphabetic);
            assert!(is_word || english != other, "{name} is not translated");
        }
    }

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        assert_eq!(
            fill("a {b} c {d}", &[("b", "{d}"), ("d", "x")]),
            "a {d} c x"
        );
        assert_eq!(fill("{unknown}{", &[]), "");
    }
}
