//! What a provider file may say in `[mode.rotation]`.

use super::super::call::Call;
use super::super::model::{Mode, Provider};
use super::super::parse::{Check, require};
use super::{MORE, Rotation};

impl Provider {
    pub(in crate::provider) fn check_rotation(&self, key: &str, mode: &Mode) -> Check {
        let Some(rotation) = &mode.rotation else {
            return Ok(());
        };
        let key = format!("{key}.rotation");
        let has_field = |key: &str, name: &str| {
            require(
                mode.field(name).is_some(),
                &format!("{key}: the mode has no field `{name}`"),
            )
        };
        require(
            mode.oauth.is_none(),
            &format!("{key}: what is granted by consent is renewed, not rotated"),
        )?;
        require(
            mode.mint.is_none() || self.test_of(mode).is_some_and(|test| test.mint),
            &format!("{key}: the test of a mode that mints must be `mint`"),
        )?;
        require(
            rotation.limit.is_none_or(|limit| limit >= 2),
            &format!("{key}.limit: two keys at least have to exist side by side"),
        )?;
        require(
            rotation.patience <= 3600 && rotation.settle < rotation.patience,
            &format!("{key}.patience: at most an hour, and longer than `settle`"),
        )?;
        require(
            rotation.needs.ends_with('.'),
            &format!("{key}.needs: is a sentence"),
        )?;
        for name in MORE {
            require(
                mode.field(name).is_none() && self.setting(name).is_none(),
                &format!("{key}: `{name}` means the call's own, and is no field or setting"),
            )?;
        }
        for name in &rotation.unless {
            has_field(&format!("{key}.unless"), name)?;
        }
        if let Some(own) = &rotation.own {
            has_field(&format!("{key}.own"), &own.field)?;
        }
        rotation.check_pointers(&key)?;
        require(
            rotation.list.name.is_some() || rotation.list.created.is_some(),
            &format!("{key}.list: a lost reply is found again by `name` or `created`"),
        )?;
        let own = rotation.own.is_some() || mode.primary().is_some();
        require(own, &format!("{key}.own: nothing tells the key in use"))?;
        for name in rotation.create.fields.keys() {
            has_field(&format!("{key}.create.fields"), name)?;
        }
        let secret = |name: &String| mode.field(name).is_some_and(|field| field.secret);
        require(
            rotation.create.fields.keys().any(secret),
            &format!("{key}.create.fields: no secret is new"),
        )?;
        let call = |part: &str, call: &Call, more: &[&str]| {
            self.check_call(&format!("{key}.{part}"), mode, call, more)?;
            require(
                call.auth != super::CallAuth::Token || rotation.scope.is_some(),
                &format!("{key}.scope: `token` needs one"),
            )
        };
        call("list.call", &rotation.list.call, &[])?;
        if let Some(next) = &rotation.list.next {
            let page = Call {
                url: next.url.clone(),
                ..rotation.list.call.clone()
            };
            call("list.next", &page, &["after"])?;
        }
        if let Some(copy) = &rotation.copy {
            call("copy.call", &copy.call, &["key"])?;
        }
        let copied = rotation.copy.iter().flat_map(|copy| copy.lists.keys());
        let mut known: Vec<&str> = copied.map(String::as_str).collect();
        for name in &known {
            let taken = mode.field(name).is_some() || self.setting(name).is_some();
            require(
                !taken && !MORE.contains(name),
                &format!("{key}.copy.lists: `{name}` is something else already"),
            )?;
        }
        known.push("marker");
        call("create.call", &rotation.create.call, &known)?;
        for (part, act) in [
            ("disable", rotation.disable.as_ref()),
            ("delete", Some(&rotation.delete)),
        ] {
            act.map_or(Ok(()), |act| call(part, act, &["key"]))?;
        }
        Ok(())
    }
}

impl Rotation {
    fn check_pointers(&self, key: &str) -> Check {
        let (list, create) = (&self.list, &self.create);
        let next = list.next.as_ref().map(|next| &next.more);
        let items = Some(&list.items).filter(|items| !items.is_empty());
        let pointers = [&list.id, &create.id]
            .into_iter()
            .chain(items)
            .chain(
                [&list.name, &list.created, &list.mask, &create.inside]
                    .into_iter()
                    .flatten(),
            )
            .chain(next)
            .chain(create.fields.values())
            .chain(self.copy.iter().flat_map(|copy| copy.lists.values()));
        for pointer in pointers {
            require(
                pointer.split('|').all(|one| one.starts_with('/')),
                &format!("{key}: the pointer `{pointer}` must begin with a slash"),
            )?;
        }
        Ok(())
    }
}
