//! The data of a figure as CSV.

use crate::ReportError;

/// A CSV file.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub name: &'static str,
    pub text: String,
}

impl Table {
    /// A table of `rows`, each as long as `header`.
    pub fn new(
        name: &'static str,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Result<Self, ReportError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(header)?;
        for row in rows {
            writer.write_record(&row)?;
        }
        let bytes = writer
            .into_inner()
            .map_err(|e| csv::Error::from(e.into_error()))?;
        Ok(Self {
            name,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// A table with further columns where the language is `known`; each row has them all.
    pub fn with_exact(
        name: &'static str,
        header: &[&str],
        exact: &[&str],
        known: bool,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Result<Self, ReportError> {
        let header: Vec<&str> = match known {
            true => [header, exact].concat(),
            false => header.to_vec(),
        };
        let columns = header.len();
        let cut = rows.into_iter().map(|mut row| {
            row.truncate(columns);
            row
        });
        Self::new(name, &header, cut)
    }

    /// The table as the target of a link.
    pub fn data_uri(&self) -> String {
        let mut uri = String::from("data:text/csv;charset=utf-8,");
        for &byte in self.text.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~,;:!*()+/@$=?".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
        uri
    }
}

/// A number of full precision; infinities are `inf` and `-inf`, what is undefined is empty.
pub(crate) fn cell(x: f64) -> String {
    if x.is_nan() {
        String::new()
    } else {
        x.to_string()
    }
}

/// A number that may be absent.
pub(crate) fn optional(x: Option<f64>) -> String {
    x.map(cell).unwrap_or_default()
}
