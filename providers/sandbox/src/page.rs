use bytes::Bytes;
use cardless_transport::Response;

/// What a customer decided on a hosted page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Agree, and pay if there is something to pay.
    Approve,
    /// The provider refuses.
    Decline,
    /// Go back to the merchant without deciding.
    Abandon,
}

impl Decision {
    /// Reads the form body `decision=approve|decline|abandon`.
    pub(crate) fn from_form(body: &[u8]) -> Option<Self> {
        url::form_urlencoded::parse(body)
            .find(|(name, _)| name == "decision")
            .and_then(|(_, value)| match value.as_ref() {
                "approve" => Some(Self::Approve),
                "decline" => Some(Self::Decline),
                "abandon" => Some(Self::Abandon),
                _ => None,
            })
    }
}

/// A hosted page: a title, some lines, and a form that posts the decision to the same address.
pub(crate) fn decision_page(title: &str, lines: &[(&str, &str)]) -> Response {
    let rows: String = lines
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)))
        .collect();
    let buttons: String = ["approve", "decline", "abandon"]
        .iter()
        .map(|word| format!("<button name=\"decision\" value=\"{word}\">{word}</button> "))
        .collect();
    let title = escape(title);
    html(
        200,
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
             <h1>{title}</h1><dl>{rows}</dl><form method=\"post\">{buttons}</form></html>"
        ),
    )
}

/// A 303 to where the customer goes on.
pub(crate) fn see_other(location: &str) -> Response {
    let mut response = html(303, String::new());
    if let Ok(value) = http::HeaderValue::from_str(location) {
        response.headers_mut().insert(http::header::LOCATION, value);
    }
    response
}

/// An HTML answer.
pub(crate) fn html(status: u16, body: String) -> Response {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/html; charset=utf-8"),
    );
    response
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_read_from_forms() {
        for (form, decision) in [
            ("decision=approve", Some(Decision::Approve)),
            ("a=b&decision=decline", Some(Decision::Decline)),
            ("decision=abandon&decision=approve", Some(Decision::Abandon)),
            ("decision=Approve", None),
            ("approve", None),
            ("", None),
        ] {
            assert_eq!(Decision::from_form(form.as_bytes()), decision, "{form}");
        }
    }

    #[test]
    fn a_page_escapes_what_it_shows() {
        let page = decision_page("<Pay>", &[("To", "\"A\" & <b>B</b>")]);
        let text = String::from_utf8_lossy(page.body()).into_owned();
        assert!(
            text.contains("&lt;Pay&gt;") && !text.contains("<b>"),
            "{text}"
        );
        for word in ["approve", "decline", "abandon"] {
            assert!(text.contains(&format!("name=\"decision\" value=\"{word}\"")));
        }
    }

    #[test]
    fn a_redirect_is_303() {
        let response = see_other("https://pay.example/return?x=1");
        assert_eq!(response.status(), 303);
        assert_eq!(
            response.headers()["location"],
            "https://pay.example/return?x=1"
        );
    }
}
