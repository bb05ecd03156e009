//! A real Chromium, driven by the W3C's WebDriver protocol over chromedriver (Debian: chromium, chromium-driver).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, wait, wait_until};

/// Where the protocol puts the number of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const SPACE: &str = " ";
pub const SHIFT: &str = "\u{e008}";
pub const LEFT: &str = "\u{e012}";

/// A browser with one window; it ends when this is dropped.
pub struct Browser {
    driver: Child,
    /// Of its session.
    url: String,
    agent: ureq::Agent,
}

impl Browser {
    /// Starts one, without a window that anybody sees, 1280 by 900.
    #[track_caller]
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            // A group of its own: the browser's processes end with it.
            .spawn()
            .expect("chromedriver can be started: apt-get install chromium chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver says its port").unwrap();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // What it says later must go somewhere.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        let mut browser = Self { driver, url: format!("http://127.0.0.1:{port}/session"), agent };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                "--hide-scrollbars", "--lang=en-GB"],
        });
        let session = browser.post(
            "",
            &json!({ "capabilities": { "alwaysMatch": {
                "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" },
            } } }),
        );
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {session}"));
        browser.url = format!("{}/{id}", browser.url);
        browser.post("/timeouts", &json!({ "script": 20_000, "pageLoad": 20_000 }));
        browser.view(1280, 900, 1.0);
        browser
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// The size of the window, in the page's own pixels, and how many of the screen's make one.
    pub fn view(&self, width: u32, height: u32, scale: f64) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", params);
    }

    /// What the page is told that the person prefers, such as `prefers-color-scheme`, `dark`.
    pub fn prefer(&self, feature: &str, value: &str) {
        let params = json!({ "features": [{ "name": feature, "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", params);
    }

    /// The body of a function, in the page; returns what it returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, &[])
    }

    /// The same with `arguments`.
    #[track_caller]
    pub fn run_with(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// The text that a person sees in the first element that fits.
    pub fn text(&self, css: &str) -> String {
        let text =
            self.run_with("return document.querySelector(arguments[0])?.innerText ?? ''", &[css.into()]);
        text.as_str().unwrap_or_default().to_owned()
    }

    /// How many elements fit.
    pub fn count(&self, css: &str) -> u64 {
        let count = self.run_with("return document.querySelectorAll(arguments[0]).length", &[css.into()]);
        count.as_u64().unwrap_or_default()
    }

    /// Waits until the first element that fits has this text.
    #[track_caller]
    pub fn wait_for_text(&self, css: &str, words: &str) -> String {
        let mut text = String::new();
        let found = wait(|| {
            text = self.text(css);
            text.contains(words).then_some(())
        });
        assert!(found.is_some(), "not within {PATIENCE:?}: {css} says {words:?}; it says {text:?}");
        text
    }

    /// Waits until an element fits.
    #[track_caller]
    pub fn wait_for(&self, css: &str) {
        wait_until(css, || (self.count(css) > 0).then_some(()));
    }

    /// Clicks the first element that fits and can be used, as a person does.
    #[track_caller]
    pub fn click(&self, css: &str) {
        wait_until(&format!("click {css}"), || {
            let element = self.find(css)?;
            self.try_post(&format!("/element/{element}/click"), &json!({})).ok()
        });
    }

    /// Writes into a field, after what is there.
    #[track_caller]
    pub fn write(&self, css: &str, text: &str) {
        wait_until(&format!("write into {css}"), || {
            let element = self.find(css)?;
            self.try_post(&format!("/element/{element}/value"), &json!({ "text": text })).ok()
        });
    }

    /// Presses keys, one after the other, wherever the focus is.
    #[track_caller]
    pub fn keys(&self, keys: &[&str]) {
        let press = |key: &&str| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let actions: Vec<Value> = keys.iter().flat_map(press).collect();
        self.act(actions);
    }

    /// One key while another is held down.
    #[track_caller]
    pub fn chord(&self, held: &str, key: &str) {
        self.act(vec![
            json!({ "type": "keyDown", "value": held }),
            json!({ "type": "keyDown", "value": key }),
            json!({ "type": "keyUp", "value": key }),
            json!({ "type": "keyUp", "value": held }),
        ]);
    }

    fn act(&self, actions: Vec<Value>) {
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// Presses Tab until an element that fits has the focus.
    #[track_caller]
    pub fn tab_to(&self, css: &str) {
        // More than there are on any page of these tests.
        for _ in 0..200 {
            let here =
                self.run_with("return document.activeElement?.matches(arguments[0]) === true", &[css.into()]);
            if here == true {
                return;
            }
            self.keys(&[TAB]);
        }
        panic!("Tab does not come to {css}");
    }

    /// A picture of the window as it is, as PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let text = self.get("/screenshot");
        let text = text.as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(text).expect("a picture")
    }

    /// What the console said since the last look; errors and violations of the policy are among it.
    pub fn console(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// A command of the browser's own protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    fn find(&self, css: &str) -> Option<String> {
        let found = self.try_post("/element", &json!({ "using": "css selector", "value": css })).ok()?;
        found[ELEMENT].as_str().map(str::to_owned)
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    fn try_post(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let answer = self
            .agent
            .post(format!("{}{path}", self.url))
            .content_type("application/json")
            .send(body.to_string());
        Self::value(answer)
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let answer = self.agent.get(format!("{}{path}", self.url)).call();
        Self::value(answer).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn value(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Value> {
        let mut answer = answer.map_err(|error| Value::from(error.to_string()))?;
        let fine = answer.status().is_success();
        // A picture of a long page has some megabytes.
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string();
        let text = text.map_err(|error| Value::from(error.to_string()))?;
        let mut value: Value = serde_json::from_str(&text).map_err(|error| Value::from(error.to_string()))?;
        let value = value["value"].take();
        if fine { Ok(value) } else { Err(value) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session.
        let _ = self.agent.delete(&self.url).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
