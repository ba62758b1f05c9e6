use std::path::Path;

use lawvere_core::EReal;

use crate::RunError;
use crate::arrays::read_vector;
use crate::model::{Place, read_text};

/// A vector of extended reals: a JSON array itself (`[0, 1.5, "inf"]`), the name of a file that holds one, or of a .npy
/// or .safetensors.
///
/// # Errors
/// No such file, or one of another form; NaN in a JSON array (in others the lens refuses it).
pub fn read_extended(given: &str) -> Result<Vec<f64>, RunError> {
    if given.trim().is_empty() {
        return Err(RunError::Usage(
            "--vector is empty; give a JSON array of numbers, or the name of a .json, .npy or .safetensors".into(),
        ));
    }
    let path = Path::new(given);
    let (text, place) = if given.trim_start().starts_with('[') {
        (given.to_owned(), Place::Argument("--vector".into()))
    } else if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"))
    {
        (read_text(path)?, Place::File(path.to_owned()))
    } else {
        return Ok(read_vector(path)?.0);
    };
    let values: Vec<EReal> = serde_json::from_str(&text).map_err(|e| {
        place.error(format!(
            "{e}; a vector is an array of numbers, \"inf\" and \"-inf\""
        ))
    })?;
    Ok(values.into_iter().map(EReal::get).collect())
}
