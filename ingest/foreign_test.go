package ingest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/valyala/fastjson"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// capture is a request of a real SDK in a real browser, as sdk-js/e2e records
// it. Exactly one of Text and Base64 is there.
type capture struct {
	Capture
	Text   string `json:"text"`
	Base64 string `json:"base64"`
}

// captures reads what one SDK sent for one visit of one page: a vital of each
// kind, an uncaught ReferenceError, a handled RangeError, a request that got a
// 500.
func captures(t testing.TB, name string) []Capture {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "captures", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []capture
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	var out []Capture
	for _, c := range list {
		c.Body = []byte(c.Text)
		if c.Base64 != "" {
			if c.Body, err = base64.StdEncoding.DecodeString(c.Base64); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, c.Capture)
	}
	return out
}

// recorded is when the captures were made.
var recorded = time.UnixMilli(1795538530_000)

var sdks = []struct {
	capture, protocol string
	sdk               string
	vitals            string // that the SDK sends
	uncaught, handled bool   // whether the protocol tells one from the other
	sessions          bool   // whether it says that a session starts
	env               string
}{
	{"faro2", "faro", "faro-web/2.12.1", "LCP INP CLS FCP TTFB", true, false, true, "production"},
	{"faro1", "faro", "faro-web/1.19.0", "FCP TTFB FID", true, false, true, "production"},
	{"sentry11", "sentry", "sentry.javascript.browser/11.12.0", "LCP INP CLS FCP TTFB", true, true, true, "production"},
	{"sentry10", "sentry", "sentry.javascript.browser/10.78.0", "LCP INP CLS FCP TTFB", true, true, true, "production"},
	{"sentry7", "sentry", "sentry.javascript.browser/7.120.4", "LCP CLS FCP TTFB FID", true, true, true, "production"},
	{"oteljson", "otlp", "opentelemetry", "LCP INP CLS FCP TTFB", true, true, true, "production"},
	{"otelproto", "otlp", "opentelemetry", "LCP INP CLS FCP TTFB", true, true, true, "production"},
	{"vitals", "web-vitals", "web-vitals/6", "LCP INP CLS FCP TTFB", false, false, false, ""},
	{"elastic2", "elastic", "rum-js/5.17.5", "LCP CLS FCP TTFB FID", true, true, false, "production"},
	{"elastic3", "elastic", "rum-js/5.17.5", "LCP CLS FCP TTFB FID", true, true, false, "production"},
	{"datadog", "datadog", "datadog-rum-slim/7.16.0", "LCP INP CLS FCP TTFB", true, true, false, "production"},
}

// TestCaptures decodes what real SDKs sent, and holds it against what the page
// did, and against golden files for everything else.
func TestCaptures(t *testing.T) {
	for _, c := range sdks {
		t.Run(c.capture, func(t *testing.T) {
			var golden strings.Builder
			vitals := map[string]float64{}
			var uncaught, handled, failed, started bool
			for i, req := range captures(t, c.capture) {
				res, err := DecodeBody(c.protocol, req, recorded)
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				for _, r := range res.Rejected {
					fmt.Fprintf(&golden, "rejected %s %s %q\n", r.Reason, r.Field, r.Value)
				}
				for item, n := range res.Ignored {
					if n > 0 && len(res.Ignored) == 1 { // maps have no order
						fmt.Fprintf(&golden, "ignored %d %s\n", n, item)
					}
				}
				for j := range res.Beacons {
					b := &res.Beacons[j]
					if b.SDK != c.sdk || b.App != "shop-web" || b.Release != "2.4.1" || b.Ctx.Env != c.env || b.Seq < event.Unordered || b.Session == "" {
						t.Errorf("request %d: beacon of %q, app %q, release %q, environment %q, seq %d, session %q", i, b.SDK, b.App, b.Release, b.Ctx.Env, b.Seq, b.Session)
					}
					fmt.Fprintf(&golden, "beacon %s %s@%s env=%s session=%s user=%s %s|%s|%s|%s|%s\n", b.SDK, b.App, b.Release, b.Ctx.Env, b.Session, b.User, b.Ctx.Platform, b.Ctx.OS, b.Ctx.Browser, b.Ctx.Device, b.Ctx.Page)
					for k := range b.Events {
						e := &b.Events[k]
						fmt.Fprintf(&golden, "  %s %q %s v=%v%s m=%q a=%v\n", e.Kind, e.Name, event.ClassOf(b.Tenancy, e), e.Value, e.Unit, e.Message, e.Attrs)
						switch e.Kind {
						case event.Vital:
							vitals[e.Name] = e.Value
						case event.Error:
							uncaught = uncaught || strings.Contains(e.Message, "cart is not defined") && !e.Flag("handled")
							handled = handled || e.Message == "handled one" && e.Flag("handled")
						case event.Request:
							failed = failed || e.Name == "GET /api/fail" && e.Flag("failed")
							if strings.Contains(e.Name, "secret") {
								t.Errorf("a query is kept: %s", e.Name)
							}
						case event.Session:
							started = started || e.Name == "start"
						}
						if age := recorded.UnixMilli() - e.Time; age < 0 || age > 120_000 {
							t.Errorf("%s %s: %d ms old", e.Kind, e.Name, age)
						}
					}
				}
			}
			for _, name := range strings.Fields(c.vitals) {
				v, ok := vitals[name]
				least, most := 1., 2000.
				switch name {
				case "CLS":
					least, most = 0.08, 0.09
				case "TTFB", "FID":
					least = 0
				case "INP":
					least, most = 50, 200
				}
				if !ok || v < least || v > most {
					t.Errorf("%s is %v (%v), want %v to %v", name, v, ok, least, most)
				}
			}
			if len(vitals) != len(strings.Fields(c.vitals)) {
				t.Errorf("vitals %v, want %s", vitals, c.vitals)
			}
			if uncaught != c.uncaught || handled != c.handled || started != c.sessions {
				t.Errorf("uncaught %v, handled %v, session start %v", uncaught, handled, started)
			}
			if wantFailed := c.protocol != "web-vitals"; failed != wantFailed {
				t.Errorf("failed request: %v", failed)
			}
			path := filepath.Join("testdata", "captures", c.capture+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(golden.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if golden.String() != string(want) {
				t.Errorf("not as in %s:\n%s", path, golden.String())
			}
		})
	}
}

// TestProtoIsJSON holds the two encodings of OTLP against one another: the
// same page, so the same kinds and names of events.
func TestProtoIsJSON(t *testing.T) {
	shape := func(name string) string {
		var sb strings.Builder
		for _, c := range captures(t, name) {
			if !strings.HasSuffix(c.Target, "traces") {
				continue
			}
			res, err := DecodeBody("otlp", c, recorded)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range res.Beacons {
				for _, e := range b.Events {
					fmt.Fprintln(&sb, e.Kind, e.Name, e.Message, len(e.Stack) > 0, len(e.Attrs))
				}
			}
		}
		return sb.String()
	}
	if a, b := shape("oteljson"), shape("otelproto"); a == "" || a != b {
		t.Errorf("JSON:\n%s\nprotobuf:\n%s", a, b)
	}
}

// TestForeignAnswers sends captures, whole and broken, to a real edge.
func TestForeignAnswers(t *testing.T) {
	e := newEdge(t)
	send := func(target string, body string, header ...string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	faro := `{"meta":{"sdk":{"name":"faro-web","version":"2"},"app":{"name":"a","version":"1"},"session":{"id":"faro-session"}},"events":[{"name":"x","timestamp":"` + now + `"}]}`
	sentry := `{"dsn":"https://pk_open@h/1"}` + "\n" + `{"type":"session"}` + "\n" + `{"sid":"sentry-session","init":true,"started":"` + now + `","status":"ok","attrs":{"release":"a@1"}}`
	otlp := `{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}},{"key":"service.version","value":{"stringValue":"1"}}]},"scopeLogs":[{"logRecords":[{"eventName":"x","attributes":[{"key":"session.id","value":{"stringValue":"otlp-session"}}]},{"eventName":"without session"}]}]}]}`
	for _, c := range []struct {
		name, target, body string
		header             []string
		status             int
		contains           string
	}{
		{"faro", "/faro/collect", faro, []string{"X-API-Key", "pk_open"}, 202, `"accepted":1`},
		{"faro by path", "/faro/collect/pk_open", faro, nil, 202, `"accepted":1`},
		{"faro without key", "/faro/collect", faro, nil, 401, `"key"`},
		{"faro not JSON", "/faro/collect/pk_open", "hello", nil, 400, `"reason":"json","field":"body","value":"hello","want":"JSON in UTF-8, at most 300 values within one another"`},
		{"faro that is an array", "/faro/collect/pk_open", "[]", nil, 400, `"type"`},
		{"faro of 10 MB", "/faro/collect/pk_open", strings.Repeat(" ", 10<<20), nil, 413, `"size"`},
		{"sentry tunnel", "/api/1/envelope/", sentry, nil, 200, "{}"},
		{"sentry by query", "/api/1/envelope/?sentry_key=pk_open", sentry, nil, 200, "{}"},
		{"sentry by header", "/api/1/envelope/", strings.Replace(sentry, "dsn", "x", 1), []string{"X-Sentry-Auth", "Sentry sentry_version=7, sentry_key=pk_open"}, 200, "{}"},
		{"sentry by an unknown key", "/api/1/envelope/?sentry_key=pk_nobody", sentry, nil, 401, "detail"},
		{"sentry with a length that lies", "/api/1/envelope/?sentry_key=pk_open", "{}\n{\"type\":\"event\",\"length\":99999}\n{}", nil, 400, "length"},
		{"otlp", "/v1/logs?key=pk_open", otlp, []string{"Content-Type", "application/json"}, 200, `"rejectedLogRecords":"1"`},
		{"otlp not protobuf", "/v1/logs?key=pk_open", "\xff\xff\xff", []string{"Content-Type", "application/x-protobuf"}, 400, `body: "3 bytes": want a protobuf message`},
		{"otlp as XML", "/v1/logs?key=pk_open", otlp, []string{"Content-Type", "text/xml"}, 415, `Content-Type: \"text/xml\": want application/json or application/x-protobuf`},
		{"otlp in UTF-16", "/v1/logs?key=pk_open", otlp, []string{"Content-Type", "application/json;charset=UTF-16"}, 415, "in UTF-8"},
		{"otlp by sendBeacon", "/v1/logs?key=pk_open", otlp, []string{"Content-Type", "text/plain;charset=UTF-8"}, 200, `"rejectedLogRecords":"1"`},
		{"otlp in capitals", "/v1/logs?key=pk_open", otlp, []string{"Content-Type", `Application/JSON; charset="utf-8"`}, 200, `"rejectedLogRecords":"1"`},
		{"otlp empty", "/v1/traces?key=pk_open", "{}", []string{"Content-Type", "application/json"}, 200, "{}"},
		{"report", "/v1/reports?key=pk_open&app=a&release=1", `[{"age":5,"type":"crash","url":"https://h/p?q","user_agent":"x","body":{"reason":"oom"}}]`, []string{"Content-Type", "application/reports+json"}, 204, ""},
		{"vital", "/v1/vitals?key=pk_open&app=a&release=1", `{"name":"LCP","value":1,"id":"v6-1-2"}`, nil, 204, ""},
		{"elastic without metadata", "/intake/v3/rum/events?key=pk_open", `{"x":{}}`, nil, 400, `"missing"`},
		{"datadog without key", "/dd?ddforward=%2Fapi", `{}`, nil, 401, `"key"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := send(c.target, c.body, append(c.header, "Origin", "https://page.example")...)
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != c.status || !strings.Contains(string(text), c.contains) {
				t.Errorf("got %d %s, want %d and %s", res.StatusCode, text, c.status, c.contains)
			}
			if got := res.Header.Get("Access-Control-Allow-Origin"); got != "https://page.example" {
				t.Errorf("a page cannot read the answer: origin %q", got)
			}
			if got := res.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(got, "Retry-After") || !strings.Contains(got, "X-Sentry-Rate-Limits") {
				t.Errorf("a page cannot read what to hold: %q", got)
			}
		})
	}
	sessions := e.tenancies(t)
	for _, id := range []string{"faro-session", "sentry-session", "otlp-session"} {
		if _, ok := sessions[id]; !ok {
			t.Errorf("nothing of %s is stored: %v", id, sessions)
		}
	}
}

// TestSentryLimits: what is to be held is said by category, and of a category only
// where nothing that it may hold would be kept.
func TestSentryLimits(t *testing.T) {
	const unused = "attachment;feedback;log_item;profile;replay;trace_metric"
	for _, c := range []struct {
		classes string
		minor   bool
		want    string
	}{
		{"", false, ""},
		{"error;wait=30", false, ""}, // handled errors and the others are of one category
		{"resource;stop, error;wait=30", false, "60:" + unused + ":organization:overload"},
		{"resource;stop, error;stop, vital;wait=30", false, "30:span;transaction:organization:overload"},
		{"resource;stop, error;stop, vital;stop, crash;wait=30", false, "30:error;session:organization:overload"},
		{"resource;wait=30", true, "30::organization:overload"},
	} {
		var a answer
		if c.classes != "" {
			a.set("Serin-Classes", c.classes)
		}
		sentryOK(&a, nil, &outcome{minor: c.minor})
		if got := a.get("X-Sentry-Rate-Limits"); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%q (minor %t) is %q, want %q", c.classes, c.minor, got, c.want)
		}
	}
}

// TestBaggageLowersTenancy has a test run's requests say so in transit.
func TestBaggageLowersTenancy(t *testing.T) {
	e := newEdge(t)
	body := `{"meta":{"app":{"name":"a","version":"1"},"session":{"id":"test-traffic"}},"events":[{"name":"x"}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+"/faro/collect/pk_open", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Baggage", "a=b;p=1, serin.tenancy=test")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := e.tenancies(t)["test-traffic"]; got != event.Test {
		t.Errorf("stored as %s", got)
	}
}

// TestBaggageOfSeveralLines has somebody else's baggage come first, by each of the ways
// in.
func TestBaggageOfSeveralLines(t *testing.T) {
	e := newEdge(t)
	ways := map[string]string{"lane": "", "http": "Expect: 100-continue\r\n"}
	for way, line := range ways {
		for _, path := range []string{"/v1/beacons?key=pk_open", "/faro/collect/pk_open"} {
			session := way + "-session-" + path[1:3]
			body := strings.Replace(beaconText(0, viewText(time.Now())), "session-0", session, 1)
			if path != "/v1/beacons?key=pk_open" {
				body = fmt.Sprintf(`{"meta":{"app":{"name":"a","version":"1"},"session":{"id":%q}},"events":[{"name":"x"}]}`, session)
			}
			conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\nBaggage: a=b\r\n%sBaggage: serin.tenancy=test\r\n\r\n%s",
				path, len(body), line, body); err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), " 202 ") {
				t.Errorf("%s: %v: %s", session, err, answer)
			}
		}
	}
	h := http.Header{"Baggage": {"a=b", "serin.tenancy=test"}}
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(e.url, "http")+"/v1/stream?key=pk_open", h)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, c, strings.Replace(beaconText(0, viewText(time.Now())), "session-0", "stream-session", 1))
	if a := answers(t, c); a.Acks[0].Error != nil {
		t.Error(a.Acks[0].Error)
	}
	got := e.tenancies(t)
	if len(got) != 5 {
		t.Errorf("stored %v", got)
	}
	for session, tenancy := range got {
		if tenancy != event.Test {
			t.Errorf("%s is stored as %s", session, tenancy)
		}
	}
}

// fuzzForeign holds what every decoder promises: no panic, errors of the class
// ErrMalformed, and beacons within the limits of the schema.
func fuzzForeign(f *testing.F, protocol string, targets []string, names ...string) {
	for _, name := range names {
		for _, c := range captures(f, name) {
			f.Add(c.Body, 0)
			f.Add(c.Body, 1)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		c := Capture{Method: "POST", Target: targets[uint(n)%uint(len(targets))], Headers: map[string]string{"content-type": "application/json"}, Body: body}
		if uint(n)%2 == 1 && protocol == "otlp" {
			c.Headers["content-type"] = "application/x-protobuf"
		}
		res, err := DecodeBody(protocol, c, recorded)
		if err != nil {
			if !errors.Is(err, dialect.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		for i := range res.Beacons {
			b := &res.Beacons[i]
			if b.App == "" || b.Release == "" || len(b.Session) < event.MinSession || len(b.Session) > event.MaxSession || len(b.Events) == 0 || len(b.Events) > event.MaxEvents || b.Seq < event.Unordered ||
				len(b.User) > event.MaxSession || len(b.App) > event.MaxName || len(b.Release) > event.MaxName || len(b.SDK) > event.MaxName || len(b.Ctx.Page) > event.MaxText || len(b.Ctx.OS) > event.MaxText {
				t.Fatalf("beacon out of the limits: %+v", b)
			}
			for j := range b.Events {
				e := &b.Events[j]
				if e.Kind == event.NoKind || e.Name == "" || len(e.Name) > event.MaxName || len(e.Message) > event.MaxMessage || len(e.Stack) > event.MaxStack || len(e.Attrs) > event.MaxAttrs || e.Value != e.Value {
					t.Fatalf("event out of the limits: %+v", e)
				}
				for _, a := range e.Attrs {
					if len(a.Text) > event.MaxText || len(a.Key) > event.MaxName || a.Number != a.Number {
						t.Fatalf("attribute out of the limits: %+v", a)
					}
				}
			}
		}
	})
}

func FuzzFaro(f *testing.F) {
	fuzzForeign(f, "faro", []string{"/faro/collect"}, "faro1", "faro2")
}

func FuzzSentry(f *testing.F) {
	fuzzForeign(f, "sentry", []string{"/api/1/envelope/"}, "sentry7", "sentry10", "sentry11")
}

func FuzzOTLP(f *testing.F) {
	fuzzForeign(f, "otlp", []string{"/v1/logs", "/v1/traces", "/v1/metrics", "/v1/logs", "/v1/traces", "/v1/metrics"}, "oteljson", "otelproto")
}

func FuzzReports(f *testing.F) {
	f.Add([]byte(`[{"age":5,"type":"network-error","url":"https://h/p","user_agent":"x","body":{"type":"tcp.refused","phase":"connection","elapsed_time":5,"sampling_fraction":1}}]`), 0)
	f.Add([]byte(`{"csp-report":{"document-uri":"https://h/","violated-directive":"script-src","blocked-uri":"inline"}}`), 0)
	fuzzForeign(f, "reporting", []string{"/v1/reports?app=a&release=1"}, "vitals")
}

func FuzzElastic(f *testing.F) {
	fuzzForeign(f, "elastic", []string{"/intake/v2/rum/events"}, "elastic2", "elastic3")
}

func FuzzDatadog(f *testing.F) {
	fuzzForeign(f, "datadog", []string{"/dd"}, "datadog")
}

// TestNestingIsNoPoison has each JSON protocol read the deepest body that its
// size allows.
func TestNestingIsNoPoison(t *testing.T) {
	deep := strings.Repeat(`{"a":`, event.MaxBody/5-1)
	if _, err := fastjson.Parse(deep); err == nil {
		t.Fatal("the parser has no bound")
	}
	for _, p := range Protocols() {
		if _, err := DecodeBody(p, Capture{Target: "/v1/logs?app=a&release=1", Body: []byte(deep)}, recorded); !errors.Is(err, dialect.ErrMalformed) {
			t.Errorf("%s: %v", p, err)
		}
	}
}
