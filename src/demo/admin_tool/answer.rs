//! What the tool answers to a request: a function of the world and the request, without IO.

use super::form::Form;
use super::issued::{self, Breach, Checked, Does, Issued, Place};
use super::session::{Session, Sessions};
use super::variant::{Charset, Variant};
use super::world::{LogonLook, World, WorldCustomer};
use super::{Fault, fault::Stage, pages, text};

/// Where the tool lives; IIS does not tell upper from lower case.
const BASE: &str = "/exlookconfig/";
const LOGON: &str = "/exlookconfig/logon.aspx";
const START: &str = "/exlookconfig/default.aspx";

const SESSION: &str = "ASP.NET_SessionId";
const TICKET: &str = ".ASPXAUTH";

/// A request, as far as it matters.
#[derive(Debug)]
pub(super) struct Request {
    pub is_post: bool,
    pub path: String,
    pub query: String,
    pub cookies: Vec<(String, String)>,
    /// Only of `application/x-www-form-urlencoded`.
    pub body: Vec<u8>,
    pub user_agent: String,
}

/// An answer, before it is put on the wire.
#[derive(Debug)]
pub(super) enum Answer {
    Whole(Response),
    /// Nothing, until the visitor gives up.
    Hang,
    /// The body's beginning, and then more and more.
    Endless(Response),
    /// The body's beginning, and then the connection closes.
    Cut(Response),
}

#[derive(Debug)]
pub(super) struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Response {
    fn html(status: u16, body: &str) -> Self {
        let content_type = "text/html; charset=utf-8";
        Self { status, content_type, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    fn redirect(location: String) -> Self {
        let body = format!(
            "<html><head><title>Object moved</title></head><body>\r\n<h2>Object moved to <a href=\"{}\">here</a>.</h2>\r\n</body></html>\r\n",
            text::escape(&location)
        );
        Self { headers: vec![("location", location)], ..Self::html(302, &body) }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn with_cookie(self, name: &str, value: &str) -> Self {
        self.with("set-cookie", format!("{name}={value}; path=/; HttpOnly; SameSite=Lax"))
    }
}

/// Answers a request; the world keeps what happened.
pub(super) fn answer(world: &mut World, request: &Request) -> Answer {
    world.note_user_agent(&request.user_agent);
    if let Some(fault) = world.outage {
        world.outage = world.outage.filter(|fault| !fault.is_once());
        if let Some(answer) = broken(world, fault) {
            return answer;
        }
    }
    let path = request.path.to_ascii_lowercase();
    match path.as_str() {
        LOGON if request.is_post => log_on(world, request),
        LOGON => Answer::Whole(logon_page(world, request, None)),
        "/exlookconfig/" | "/exlookconfig" => Answer::Whole(Response::redirect(START.to_owned())),
        "/exlookconfig/logoff.aspx" => Answer::Whole(log_off(world, request)),
        _ if path.starts_with(BASE) && path.ends_with(".aspx") => inside(world, request, &path),
        _ => Answer::Whole(Response::html(
            404,
            "<html><body><h2>404 - ファイルまたはディレクトリが見つかりません。</h2></body></html>",
        )),
    }
}

/// What a fault of the server itself looks like, wherever it strikes.
fn broken(world: &World, fault: Fault) -> Option<Answer> {
    let page =
        || Response::html(200, "<!DOCTYPE html>\r\n<html><head><title>ExLook管理ツール</title></head><body><ul>\r\n");
    let busy = |status, words| Response::html(status, words).with("retry-after", "1");
    Some(match fault {
        Fault::Maintenance503 => Answer::Whole(Response::html(503, pages::MAINTENANCE)),
        Fault::Maintenance200 => Answer::Whole(Response::html(200, pages::MAINTENANCE)),
        Fault::Hang => Answer::Hang,
        Fault::ServerError => Answer::Whole(Response::html(
            500,
            &pages::yellow("オブジェクト参照がオブジェクト インスタンスに設定されていません。"),
        )),
        Fault::EndlessPage => Answer::Endless(page()),
        Fault::ClosedMidBody | Fault::ClosedOnce => Answer::Cut(page()),
        Fault::RedirectElsewhere => Answer::Whole(Response::redirect(format!("{}welcome", world.elsewhere))),
        Fault::TooManyRequestsOnce => Answer::Whole(busy(429, "<html><body><h2>Too Many Requests</h2></body></html>")),
        Fault::UnavailableOnce => Answer::Whole(busy(503, "<html><body><h2>Service Unavailable</h2></body></html>")),
        _ => return None,
    })
}

fn cookie<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.cookies.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Sends the log-on page, in a session of its own if the visitor has none.
fn logon_page(world: &mut World, request: &Request, message: Option<&str>) -> Response {
    let look = world.logon_look;
    let action = match request.query.as_str() {
        "" => "./logon.aspx".to_owned(),
        query => format!("./logon.aspx?{query}"),
    };
    let style = Variant::PLAIN.hidden;
    let (html, issued) = pages::logon(look, message).finish(&action, Place::default(), style, 1, &mut world.sessions);
    let known = cookie(request, SESSION).filter(|id| world.sessions.get(id).is_some()).map(ToOwned::to_owned);
    let page = |html| page(look.charset, "ログオン", html);
    match known.as_deref().and_then(|id| world.sessions.get_mut(id)) {
        Some(session) => {
            session.issue(issued);
            page(&html)
        }
        None => {
            let mut session = Session::default();
            session.issue(issued);
            let id = world.sessions.open(session);
            page(&html).with_cookie(SESSION, &id)
        }
    }
}

/// A postback that ASP.NET would have let through.
struct PostBack {
    posted: Vec<(String, String)>,
    /// What the page showed that it came from.
    place: Place,
    checked: Checked,
}

/// Reads what came back on a page of the visitor's own session and notes what is wrong with it; the error is the page to show.
fn post_back(world: &mut World, request: &Request, charset: Charset) -> Result<PostBack, Response> {
    let posted = issued::parse_posted(&request.body, charset.encoding());
    let session = cookie(request, SESSION).and_then(|id| world.sessions.get(id));
    let customer = session.and_then(|session| world.customers.get(session.customer?));
    let account = customer.map(|customer| customer.account.clone());
    let view_state = issued::value(&posted, "__VIEWSTATE");
    let issued = session.and_then(|session| view_state.and_then(|state| session.issued(state)));
    let (place, checked) = match issued {
        Some(issued) => (issued.place, issued.check(&posted)),
        None => {
            let name = "__VIEWSTATE".to_owned();
            let breach = if view_state.is_none() { Breach::Missing(name) } else { Breach::Altered(name) };
            (Place::default(), Checked { breaches: vec![breach], ..Checked::default() })
        }
    };
    for breach in &checked.breaches {
        world.note_violation(account.clone(), &request.path, breach.clone());
    }
    match checked.breaches.iter().find(|breach| breach.is_fatal()) {
        Some(breach) => Err(breach_page(breach)),
        None => Ok(PostBack { posted, place, checked }),
    }
}

/// The error page that ASP.NET shows for it.
fn breach_page(breach: &Breach) -> Response {
    let title = match breach {
        Breach::Missing(name) | Breach::Altered(name) if name.starts_with("__VIEWSTATE") => {
            "ビューステート MAC の検証に失敗しました。"
        }
        _ => "無効なポストバックまたはコールバック引数です。",
    };
    Response::html(500, &pages::yellow(title))
}

fn log_on(world: &mut World, request: &Request) -> Answer {
    let charset = world.logon_look.charset;
    let PostBack { posted, checked, .. } = match post_back(world, request, charset) {
        Ok(post_back) => post_back,
        Err(error) => return Answer::Whole(error),
    };
    if !checked.logs_on {
        return Answer::Whole(logon_page(world, request, None));
    }
    let account = issued::value(&posted, pages::ACCOUNT).unwrap_or_default();
    let password = issued::value(&posted, pages::PASSWORD).unwrap_or_default();
    let Some(at) = world.customers.iter().position(|customer| customer.account == account) else {
        world.counters.strangers += 1;
        return Answer::Whole(logon_page(world, request, Some(text::REFUSED)));
    };
    let fault = world.customers[at].active_fault();
    if let Some(answer) = fault.filter(|fault| fault.stage() == Stage::LogOn).and_then(|fault| broken(world, fault)) {
        return answer;
    }
    if let Some(message) = refusal(world, at, password) {
        return Answer::Whole(logon_page(world, request, Some(message)));
    }
    Answer::Whole(let_in(world, request, at))
}

/// Why the account is not let in; counts the try.
fn refusal(world: &mut World, at: usize, password: &str) -> Option<&'static str> {
    let lock_after = world.lock_after;
    let customer = &mut world.customers[at];
    let logons = world.counters.logons.entry(customer.account.clone()).or_default();
    let fault = customer.fault;
    if customer.locked || fault == Some(Fault::AccountLocked) {
        logons.refused += 1;
        return Some(text::LOCKED);
    }
    if password == customer.password && fault != Some(Fault::PasswordRefused) {
        logons.accepted += 1;
        customer.refused_in_a_row = 0;
        return None;
    }
    logons.refused += 1;
    customer.refused_in_a_row += 1;
    if customer.refused_in_a_row >= lock_after {
        customer.locked = true;
        world.counters.locked_out += 1;
    }
    Some(text::REFUSED)
}

/// A new session with a ticket, and on to the page that was asked for.
fn let_in(world: &mut World, request: &Request, at: usize) -> Response {
    if let Some(id) = cookie(request, SESSION) {
        world.sessions.end(id);
    }
    let ticket = world.sessions.token();
    let id = world.sessions.open(Session::of(at, ticket.clone()));
    let location = if world.customers[at].fault == Some(Fault::PasswordChangeRequired) {
        format!("{BASE}changepassword.aspx")
    } else {
        return_url(&request.query).unwrap_or_else(|| START.to_owned())
    };
    Response::redirect(location).with_cookie(TICKET, &ticket).with_cookie(SESSION, &id)
}

/// Where the log-on page was asked to return to: only within the tool.
fn return_url(query: &str) -> Option<String> {
    let pairs = issued::parse_posted(query.as_bytes(), encoding_rs::UTF_8);
    let url = pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("ReturnUrl")).map(|(_, url)| url)?;
    let is_plain = url.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)) && !url.contains("..");
    (is_plain && url.to_ascii_lowercase().starts_with(BASE)).then_some(url)
}

fn log_off(world: &mut World, request: &Request) -> Response {
    if let Some(id) = visitor(world, request).map(|(id, _)| id) {
        world.sessions.end(&id);
        world.counters.log_offs += 1;
    }
    let past = "; expires=Tue, 12-Oct-1999 00:00:00 GMT";
    Response::redirect(LOGON.to_owned()).with("set-cookie", format!("{TICKET}={past}; path=/; HttpOnly"))
}

/// The session and the customer of a visitor who has logged on.
fn visitor(world: &World, request: &Request) -> Option<(String, usize)> {
    let id = cookie(request, SESSION)?;
    let session = world.sessions.get(id)?;
    let ticket = cookie(request, TICKET)?;
    let at = session.customer.filter(|at| *at < world.customers.len())?;
    (session.ticket.as_deref() == Some(ticket)).then_some((id.to_owned(), at))
}

/// A page behind the log-on.
fn inside(world: &mut World, request: &Request, path: &str) -> Answer {
    let Some((id, at)) = visitor(world, request) else {
        return Answer::Whole(to_logon(path));
    };
    if let Some(answer) = struck(world, request, path, &id, at) {
        return answer;
    }
    let must_change = world.customers[at].fault == Some(Fault::PasswordChangeRequired);
    if must_change && !path.ends_with("/changepassword.aspx") {
        return Answer::Whole(Response::redirect(format!("{BASE}changepassword.aspx")));
    }
    let variant = world.customers[at].variant;
    let (place, saved) = match start_of(path, variant, must_change) {
        None => return Answer::Whole(Response::html(404, "<html><body><h2>404</h2></body></html>")),
        Some(start) if !request.is_post => (start, false),
        Some(_) => match posted_back(world, request, variant, at) {
            Ok(Moved::To(place, saved)) => (place, saved),
            Ok(Moved::Off) => return Answer::Whole(log_off(world, request)),
            Err(error) => return Answer::Whole(error),
        },
    };
    let customer = &world.customers[at];
    let (form, title): (Form, _) = if must_change {
        (pages::change_password(customer), "パスワードの変更")
    } else {
        (pages::tool(customer, place, saved), "ExLook管理ツール")
    };
    let action = format!("./{}", path.trim_start_matches(BASE));
    let (html, issued) = form.finish(&action, place, variant.hidden, variant.view_state_kib, &mut world.sessions);
    issue(world, &id, issued);
    Answer::Whole(page(variant.charset, title, &html))
}

fn issue(world: &mut World, id: &str, issued: Issued) {
    if let Some(session) = world.sessions.get_mut(id) {
        session.issue(issued);
    }
}

fn to_logon(path: &str) -> Response {
    Response::redirect(format!("{LOGON}?ReturnUrl={}", path.replace('/', "%2f")))
}

/// What goes wrong with a page behind the log-on.
fn struck(world: &mut World, request: &Request, path: &str, id: &str, at: usize) -> Option<Answer> {
    let fault = world.customers[at].active_fault()?;
    let strikes = match fault.stage() {
        Stage::Pages => true,
        Stage::PostBacks => request.is_post,
        Stage::LogOn | Stage::Content | Stage::Elsewhere => false,
    };
    if !strikes {
        return None;
    }
    world.customers[at].fault_spent = true;
    match fault {
        Fault::SessionLostOnce | Fault::SessionLostAlways => {
            world.sessions.end(id);
            Some(Answer::Whole(to_logon(path)))
        }
        Fault::SessionLostOnceInPlace => {
            world.sessions.end(id);
            Some(Answer::Whole(logon_page(world, request, None)))
        }
        _ => broken(world, fault),
    }
}

/// Where a page of the tool starts when it is opened, not posted back to.
fn start_of(path: &str, variant: Variant, must_change: bool) -> Option<Place> {
    let at = |tab| Some(Place { tab, site: 0 });
    match path.trim_start_matches(BASE) {
        "default.aspx" => at(pages::first_tab(variant)),
        "changepassword.aspx" if must_change => at(0),
        pages::SITES_PAGE => at(pages::wanted_tab(variant)),
        "company.aspx" => at(0),
        "users.aspx" => at(2),
        "logs.aspx" => at(3),
        _ => None,
    }
}

enum Moved {
    To(Place, bool),
    Off,
}

/// What a postback does.
fn posted_back(world: &mut World, request: &Request, variant: Variant, at: usize) -> Result<Moved, Response> {
    let PostBack { place, checked, .. } = post_back(world, request, variant.charset)?;
    let saved = checked.breaches.iter().any(|breach| matches!(breach, Breach::Pressed(_)));
    let site = |site| match world.customers[at].fault {
        Some(Fault::WrongSiteShown) => Place { site: 0, ..place },
        _ => Place { site, ..place },
    };
    Ok(match checked.does {
        None => {
            // Without a script a changed list is drawn as it was sent, but nothing hears of it: the page stays where it was.
            Moved::To(place, saved)
        }
        Some(Does::OpenTab(tab)) => Moved::To(Place { tab, ..place }, saved),
        Some(Does::ShowSite(chosen)) => Moved::To(site(chosen), saved),
        Some(Does::ShowSiteOf(_)) => Moved::To(site(checked.chosen.unwrap_or(place.site)), saved),
        Some(Does::LogOff) => Moved::Off,
    })
}

/// A page as it would be sent.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The body.
    pub body: Vec<u8>,
    /// `Content-Type`.
    pub content_type: &'static str,
}

/// Pages that a customer may come to see, without a visitor: the log-on page, the one that changes the password, each tab
/// with the customer's first site, and last the settings of its last one.
#[must_use]
pub fn drawn(customer: &WorldCustomer, look: LogonLook, seed: u64) -> Vec<Drawn> {
    let mut tokens = Sessions::new(seed);
    let variant = customer.variant;
    let mut all = Vec::new();
    let mut draw = |form: Form, title: &str, kib: usize| {
        let (html, _) = form.finish("./default.aspx", Place::default(), variant.hidden, kib, &mut tokens);
        let Response { body, content_type, .. } = page(variant.charset, title, &html);
        all.push(Drawn { body, content_type });
    };
    draw(pages::logon(look, Some(text::REFUSED)), "ログオン", 1);
    draw(pages::change_password(customer), "パスワードの変更", 1);
    let tabs = (0..4).map(|tab| Place { tab, site: 0 });
    let last = Place { tab: pages::wanted_tab(variant), site: customer.sites.len().saturating_sub(1) };
    for place in tabs.chain([last]) {
        draw(pages::tool(customer, place, false), "ExLook管理ツール", variant.view_state_kib);
    }
    all
}

/// A whole page in its charset, told the way the charset says.
fn page(charset: Charset, title: &str, form: &str) -> Response {
    let meta = match charset {
        Charset::Utf8Meta => "<meta charset=\"utf-8\" />",
        Charset::SjisMeta => "<meta http-equiv=\"Content-Type\" content=\"text/html; charset=Shift_JIS\" />",
        _ => "",
    };
    let html = format!(
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\r\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"ja\">\r\n<head>\r\n{meta}<title>{title}</title>\r\n\
         <script type=\"text/javascript\">function showPanel(n) {{ if (n < 9 && n >= 0) {{ document.title = \"</p>\"; }} return false; }}</script>\r\n\
         </head>\r\n<body>\r\n<!-- <form><input type=\"submit\" name=\"old\" value=\"ログオン\" /></form> -->\r\n{form}</body>\r\n</html>\r\n"
    );
    let content_type = match charset {
        Charset::Utf8Header => "text/html; charset=utf-8",
        Charset::SjisHeader => "text/html; charset=shift_jis",
        _ => "text/html",
    };
    let mut body = if charset == Charset::Utf8Bom { vec![0xEF, 0xBB, 0xBF] } else { Vec::new() };
    body.extend_from_slice(&charset.encoding().encode(&html).0);
    Response { status: 200, content_type, headers: Vec::new(), body }
}
