package corpus

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

func (f Frame) text() string {
	return fmt.Sprintf("at %s (%s:%d:%d)", f.Function, f.File, f.Line, f.Column)
}

// pair is an attribute of OpenTelemetry: a text, or a number where num is set.
type pair struct {
	key, text string
	number    float64
	num       bool
}

func text(key, value string) pair           { return pair{key: key, text: value} }
func number(key string, value float64) pair { return pair{key: key, number: value, num: true} }

// logRecord is an observation as a log event, which is how browsers and apps
// tell them by OpenTelemetry's conventions.
type logRecord struct {
	name     string
	at       int64
	severity int
	attrs    []pair
}

// scope names the instrumentation, in both encodings.
const scopeName, scopeVersion = "browser", "0.60.0"

func otlpResource(b *Beacon) []pair {
	return []pair{text("service.name", b.App), text("service.version", b.Release), text("deployment.environment.name", "production"),
		text("telemetry.sdk.name", "opentelemetry"), text("telemetry.sdk.language", "webjs"), text("telemetry.sdk.version", "2.2.0"),
		text("user_agent.original", b.Device.Agent), text("session.id", string(placeholder)), text("user.id", b.User)}
}

func otlpRecords(b *Beacon) []logRecord {
	var out []logRecord
	for i := range b.Events {
		e := &b.Events[i]
		r := logRecord{at: e.At, severity: 9}
		url := text("url.full", "https://www."+b.App+".example"+b.Page)
		switch e.Kind {
		case "exposure":
			r.name, r.attrs = "exposure", []pair{text("change", e.Name), text("arm", b.Arm), url}
		case "session":
			r.name, r.attrs = "session."+e.Name, []pair{url}
		case "view":
			r.name, r.attrs = "browser.page_view", []pair{url}
		case "vital":
			r.name, r.attrs = "browser.web_vital", []pair{text("browser.web_vital.name", lower(e.Name)), number("browser.web_vital.value", e.Value), text("browser.web_vital.rating", e.Rating), url}
		case "request":
			r.name, r.attrs = "browser.request", []pair{text("http.request.method", e.Method), text("url.full", "https://api."+b.App+".example"+e.Name),
				number("http.response.status_code", float64(e.Status)), number("duration", e.Value)}
		case "resource":
			r.name, r.attrs = "browser.resource_timing", []pair{text("url.full", "https://cdn."+b.App+".example"+e.Name), text("browser.resource_timing.initiator_type", "script"),
				number("browser.resource_timing.duration", e.Value)}
		case "longtask":
			r.name, r.attrs = "app.jank", []pair{number("app.jank.period", e.Value/1000), url}
		case "metric":
			r.name, r.attrs = e.Name, []pair{number("value", e.Value), url}
		case "crash":
			r.name, r.severity = "app.crash", 21
			r.attrs = []pair{text("exception.type", e.Name), text("exception.message", e.Message), url}
		case "error":
			r.name, r.severity = "exception", 17
			if e.Handled {
				r.severity = 13
			}
			r.attrs = []pair{text("exception.type", e.Name), text("exception.message", e.Message), text("exception.stacktrace", stack(e.Frames)), url}
		}
		out = append(out, r)
	}
	return out
}

// ---- protobuf ----

// field appends a length-delimited field.
func field(to []byte, num protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, num, protowire.BytesType), value)
}

func fixed(to []byte, num protowire.Number, value uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(to, num, protowire.Fixed64Type), value)
}

func protoPair(p pair) []byte {
	var value []byte
	if p.num {
		value = fixed(nil, 4, math.Float64bits(p.number))
	} else {
		value = field(nil, 1, []byte(p.text))
	}
	return field(field(nil, 1, []byte(p.key)), 2, value)
}

func otlpProto(b *Beacon) []byte {
	var resource, scope []byte
	for _, p := range otlpResource(b) {
		resource = field(resource, 1, protoPair(p))
	}
	scope = field(scope, 1, field(field(nil, 1, []byte(scopeName)), 2, []byte(scopeVersion)))
	for _, r := range otlpRecords(b) {
		rec := fixed(nil, 1, uint64(r.at)*1e6)
		rec = protowire.AppendVarint(protowire.AppendTag(rec, 2, protowire.VarintType), uint64(r.severity))
		for _, p := range r.attrs {
			rec = field(rec, 6, protoPair(p))
		}
		rec = fixed(rec, 11, uint64(r.at)*1e6)
		rec = field(rec, 12, []byte(r.name))
		scope = field(scope, 2, rec)
	}
	return field(nil, 1, field(field(nil, 1, resource), 2, scope))
}

// ---- JSON ----

type jsonPair struct {
	Key   string    `json:"key"`
	Value jsonValue `json:"value"`
}

type jsonValue struct {
	Text   *string  `json:"stringValue,omitempty"`
	Number *float64 `json:"doubleValue,omitempty"`
}

type jsonRecord struct {
	Time       string     `json:"timeUnixNano"`
	Observed   string     `json:"observedTimeUnixNano"`
	Severity   int        `json:"severityNumber"`
	Name       string     `json:"eventName"`
	Attributes []jsonPair `json:"attributes"`
}

func jsonPairs(ps []pair) []jsonPair {
	out := make([]jsonPair, len(ps))
	for i, p := range ps {
		out[i].Key = p.key
		if p.num {
			out[i].Value.Number = &p.number
		} else {
			out[i].Value.Text = &p.text
		}
	}
	return out
}

func otlpJSON(b *Beacon) ([]byte, error) {
	var records []jsonRecord
	for _, r := range otlpRecords(b) {
		at := strconv.FormatInt(r.at*1e6, 10)
		records = append(records, jsonRecord{at, at, r.severity, r.name, jsonPairs(r.attrs)})
	}
	type m = map[string]any
	return json.Marshal(m{"resourceLogs": []m{{
		"resource":  m{"attributes": jsonPairs(otlpResource(b))},
		"scopeLogs": []m{{"scope": m{"name": scopeName, "version": scopeVersion}, "logRecords": records}},
	}}})
}
