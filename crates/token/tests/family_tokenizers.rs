//! A tokenizer.json of every family, with the ids of transformers (fixtures/tokenizers).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_token::Tokenizer;
use serde_json::Value;

#[test]
fn every_family_s_tokenizer_gives_the_ids_of_transformers_and_the_texts_back() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers");
    let fixture = std::fs::read_to_string(folder.join("ids.json")).unwrap();
    let fixture: Value = serde_json::from_str(&fixture).unwrap();
    let texts: Vec<&str> = fixture["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    let families = fixture["tokenizers"].as_object().unwrap();
    assert!(texts.len() >= 500 && families.len() == 11);
    let mut wrong = Vec::new();
    for (family, wanted) in families {
        let tokenizer = Tokenizer::open(&folder.join(format!("{family}.json"))).unwrap();
        let rows = wanted["ids"].as_array().unwrap();
        let changed = wanted["changed"].as_array().unwrap();
        assert_eq!(rows.len(), texts.len());
        for (at, (text, row)) in texts.iter().zip(rows).enumerate() {
            let row: Vec<u32> = serde_json::from_value(row.clone()).unwrap();
            let ours = tokenizer.encode(text).unwrap();
            if ours != row {
                wrong.push(format!(
                    "{family}: {text:?}: {ours:?}, transformers {row:?}"
                ));
            }
            if (tokenizer.decode(&row).unwrap() != *text) != changed.contains(&Value::from(at)) {
                wrong.push(format!("{family}: {text:?} comes back otherwise"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
