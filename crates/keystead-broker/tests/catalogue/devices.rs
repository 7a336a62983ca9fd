//! Devices: an account that is connected by a code, through a broker.

use std::sync::Arc;

use keystead_broker::{Begin, Clock, ClockHand, DevicePoll, Error, Status};
use keystead_core::provider::Mode;
use keystead_core::provider::oauth::OAuth;

use crate::cases::{Case, cases_in, catalogue, each};
use crate::house::Plan;

async fn connects_a_device(case: &Case, oauth: &OAuth, hand: &ClockHand) -> Result<(), String> {
    let broker = &case.house.broker;
    let begin = Begin {
        type_: case.provider.id.clone(),
        integration: None,
        name: None,
        config: case.config(),
        session: None,
    };
    let device = broker.begin_device_authorization(&case.owner, begin).await;
    let device = match (oauth.device_url.is_some(), device) {
        (false, Err(Error::Conflict { .. })) => return Ok(()),
        (true, Ok(device)) => device,
        (_, other) => return Err(format!("{other:?}; {}", case.refused())),
    };
    let poll = async || {
        hand.set(case.house.clock.now().plus_seconds(6));
        broker
            .poll_device_authorization(&case.owner, device.id)
            .await
    };
    match poll().await {
        Ok(DevicePoll::Pending(_)) => {}
        other => return Err(format!("before consent: {other:?}; {}", case.refused())),
    }
    case.played.approves_devices();
    let done = match poll().await {
        Ok(DevicePoll::Completed(done)) => done,
        other => return Err(format!("after consent: {other:?}; {}", case.refused())),
    };
    let seen = case.house.settled(&case.owner, done.integration.id).await;
    if seen.status != Status::Connected {
        return Err(format!("{:?}; {}", seen.error_message, case.refused()));
    }
    match poll().await {
        Err(_) => Ok(()),
        Ok(other) => Err(format!("a code is good for two: {other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_with_a_device_flow_connects_a_device_and_no_other_does() {
    let (clock, hand) = Clock::fixed(Clock::default().now());
    let hand = Arc::new(hand);
    let plan = Plan {
        clock,
        ..Plan::default()
    };
    each(cases_in(catalogue(), plan).await, |case: Arc<Case>| {
        let hand = hand.clone();
        async move {
            let part = case.played.part();
            let Some((mode, oauth)): Option<(&Mode, _)> = part.oauth() else {
                return Vec::new();
            };
            let result = connects_a_device(&case, oauth, &hand).await;
            let fault = result.err();
            fault
                .map(|fault| case.at(mode, &fault))
                .into_iter()
                .collect()
        }
    })
    .await;
}
