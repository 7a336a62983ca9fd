//! Which service and region a host of AWS is, for the scope of a signature.

/// Service and region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The name that signatures use, such as `sts`.
    pub service: String,
    /// Such as `us-east-1`.
    pub region: String,
}

/// Hosts whose first label is not the name that signatures use.
const SIGNING_NAMES: [(&str, &str); 7] = [
    ("api.ecr", "ecr"),
    ("api.sagemaker", "sagemaker"),
    ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-runtime", "bedrock"),
    ("email", "ses"),
    ("runtime.sagemaker", "sagemaker"),
    ("streams.dynamodb", "dynamodb"),
];

/// Reads `service[.region].amazonaws.com`, with a bucket before S3's and an API's id before
/// API Gateway's. `None` for what is not known to be one of these.
pub fn scope_of(host: &str) -> Option<Scope> {
    let (front, home) = if let Some(front) = host.strip_suffix(".amazonaws.com.cn") {
        (front, "cn-north-1")
    } else {
        (host.strip_suffix(".amazonaws.com")?, "us-east-1")
    };
    let scope = |service: &str, region: &str| {
        Some(Scope {
            service: service.to_owned(),
            region: region.to_owned(),
        })
    };
    let labels: Vec<&str> = front.split('.').collect();
    // Nothing that could end a part of the scope early.
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if labels
        .iter()
        .any(|label| label.is_empty() || !label.bytes().all(plain))
    {
        return None;
    }
    // `iam.us-gov.amazonaws.com` is the one service of GovCloud without a whole region.
    if front == "iam.us-gov" {
        return scope("iam", "us-gov-west-1");
    }
    // The last label that is S3's: what stands before it is the bucket.
    let is_s3 = |label: &&str| {
        matches!(
            *label,
            "s3" | "s3-fips" | "s3-accelerate" | "s3-control" | "s3-accesspoint"
        ) || label.strip_prefix("s3-").is_some_and(is_region)
    };
    if let Some(at) = labels.iter().rposition(is_s3) {
        let after: Vec<&str> = labels[at + 1..]
            .iter()
            .copied()
            .filter(|label| *label != "dualstack")
            .collect();
        let own = labels[at].strip_prefix("s3-").filter(|r| is_region(r));
        return match (own, after.as_slice()) {
            (Some(region), []) => scope("s3", region),
            (None, []) => scope("s3", home),
            (None, [region]) if is_region(region) => scope("s3", region),
            _ => None,
        };
    }
    match labels.as_slice() {
        [service] => scope(signing_name(service), home),
        [_, "execute-api", region] if is_region(region) => scope("execute-api", region),
        [name @ .., region] if is_region(region) && name.len() <= 2 => {
            let name = name.join(".");
            let known = SIGNING_NAMES.iter().any(|(host, _)| *host == name);
            // A second label is part of a service's name only where it is known to be.
            if name.contains('.') && !known {
                return None;
            }
            scope(signing_name(&name), region)
        }
        _ => None,
    }
}

fn signing_name(host: &str) -> &str {
    SIGNING_NAMES
        .iter()
        .find(|(known, _)| *known == host)
        .map_or(host.strip_suffix("-fips").unwrap_or(host), |(_, name)| name)
}

/// `us-east-1`, `us-gov-west-1`: letters, letters, and a number.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return false;
    };
    (3..=4).contains(&parts.len())
        && first.len() == 2
        && parts[..parts.len() - 1]
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()))
        && (1..=2).contains(&last.len())
        && last.bytes().all(|b| b.is_ascii_digit())
}
