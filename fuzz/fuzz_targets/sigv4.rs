//! The canonical request of AWS's signature: whatever is sent, its lines are where they belong, so
//! that no part of a request can pass for another.
#![no_main]

use http::{HeaderMap, HeaderValue};
use keystead_core::sigv4::{Parts, canonical_request, is_presigned, scope_of, signed_names};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8], bool)| {
    let (path, query, value, s3) = input;
    let _ = scope_of(path);

    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.append("x-amz-meta-one", value.clone());
        headers.append("x-amz-meta-one", value.clone());
        headers.append("x-other", value);
    }
    let signed = signed_names(&headers);
    let host = "s3.us-east-1.amazonaws.com";
    let parts = Parts {
        method: "PUT",
        path,
        query,
        host,
        headers: &headers,
    };
    let text = canonical_request(&parts, &signed, "UNSIGNED-PAYLOAD", s3);
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines.len(), 3 + signed.len() + 3);
    assert_eq!(lines[0], "PUT");
    assert!(lines[1].starts_with('/') || s3);
    assert_eq!(lines[3], format!("host:{host}"));
    assert_eq!(lines[3 + signed.len() + 1], signed.join(";"));

    let names_a_signature = query
        .split(['&', ';'])
        .any(|pair| pair.to_ascii_lowercase().starts_with("x-amz-signature="));
    assert!(!names_a_signature || is_presigned(query));
});
