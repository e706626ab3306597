package otlp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

const who = `{"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.version","value":{"stringValue":"1"}},{"key":"session.id","value":{"stringValue":"session-1"}}`

// logs decodes log records in JSON of one resource.
func logs(t *testing.T, resource string, records ...string) dialect.Result {
	t.Helper()
	body := fmt.Sprintf(`{"resourceLogs":[{"resource":{"attributes":[%s]},"scopeLogs":[{"logRecords":[%s]}]}]}`, resource, strings.Join(records, ","))
	res, err := Decode(&dialect.Request{Target: &url.URL{Path: "/v1/logs"}, Header: map[string]string{}, Body: []byte(body), Now: 1795538530_000})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// logRecord writes a log record; attributes are pairs of a key and a text or number.
func logRecord(name, body string, attrs ...any) string {
	var kv []string
	for i := 0; i < len(attrs); i += 2 {
		value, _ := json.Marshal(attrs[i+1])
		kind := "doubleValue"
		if _, ok := attrs[i+1].(string); ok {
			kind = "stringValue"
		}
		kv = append(kv, fmt.Sprintf(`{"key":%q,"value":{%q:%s}}`, attrs[i], kind, value))
	}
	if body == "" {
		body = "{}"
	}
	return fmt.Sprintf(`{"eventName":%q,"severityNumber":9,"body":%s,"attributes":[%s]}`, name, body, strings.Join(kv, ","))
}

// TestConventions: what the instrumentations of OpenTelemetry's repositories for
// browsers, Android and Swift, and older conventions, write.
func TestConventions(t *testing.T) {
	page := logRecord("browser.page_view", "", "url.full", "https://shop.example/cart")
	for _, c := range []struct{ name, record, want string }{
		{"a resource", logRecord("browser.resource_timing", "", "url.full", "https://cdn.example/app.js?v=1", "browser.resource_timing.initiator_type", "script", "browser.resource_timing.duration", 12.5), "resource /app.js 12.5 ms resource /cart"},
		{"a line of the console", logRecord("browser.console", `{"stringValue":"hello"}`, "browser.console.method", "warn"), "event log 0  resource /cart"},
		{"a vital in a body", logRecord("browser.web_vital", `{"kvlistValue":{"values":[{"key":"name","value":{"stringValue":"lcp"}},{"key":"value","value":{"intValue":"440"}}]}}`), "vital LCP 440 ms vital /cart"},
		{"a page in a body", logRecord("browser.page_view", `{"kvlistValue":{"values":[{"key":"url","value":{"stringValue":"https://shop.example/pay?a"}}]}}`), "view /pay 0  vital /pay"},
		{"a crash of MetricKit", logRecord("metrickit.diagnostic.crash", "", "exception.type", "EXC_BAD_ACCESS"), "crash EXC_BAD_ACCESS 0  crash /cart"},
		{"a hang of MetricKit", logRecord("metrickit.diagnostic.hang", "", "exception.stacktrace", "{}"), "anr anr 0  crash /cart"},
		{"an exception by another name", logRecord("http.client.request.exception", "", "exception.type", "IOException"), "error IOException 0  error /cart"},
		{"jank", logRecord("app.jank", "", "app.jank.frame_count", 3, "app.jank.threshold", 0.7, "app.jank.period", 10), "longtask jank 2100 ms resource /cart"},
		{"a destination", logRecord("app.navigation.complete", "", "app.navigation.destination.name", "Cart"), "view Cart 0  vital Cart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := logs(t, who, page, c.record)
			if len(res.Beacons) == 0 || len(res.Rejected) > 0 {
				t.Fatalf("%+v", res)
			}
			b := &res.Beacons[len(res.Beacons)-1]
			e := &b.Events[len(b.Events)-1]
			if got := fmt.Sprintf("%s %s %g %s %s %s", e.Kind, e.Name, e.Value, e.Unit, event.ClassOf(b.Tenancy, e), b.Ctx.Page); got != c.want || res.Events() != 2 {
				t.Errorf("got %q of %d events, want %q of 2", got, res.Events(), c.want)
			}
		})
	}
}

// TestProtoBody: the body of an event in protobuf, too.
func TestProtoBody(t *testing.T) {
	text := func(num protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	kv := func(key, value string) []byte {
		return append(text(1, []byte(key)), text(2, text(1, []byte(value)))...)
	}
	members := append(text(1, kv("name", "cls")), text(1, kv("value", "0.25"))...)
	log := append(text(12, []byte("browser.web_vital")), text(5, text(6, members))...)
	var resource []byte
	for _, p := range [][2]string{{"service.name", "shop"}, {"service.version", "1"}, {"session.id", "session-1"}} {
		resource = append(resource, text(1, kv(p[0], p[1]))...)
	}
	body := text(1, append(text(1, resource), text(2, text(2, log))...))
	res, err := Decode(&dialect.Request{Target: &url.URL{Path: "/v1/logs"}, Header: map[string]string{"content-type": "application/x-protobuf"}, Body: body, Now: 1795538530_000})
	if err != nil || res.Events() != 1 || res.Beacons[0].Events[0].Name != "CLS" || res.Beacons[0].Events[0].Value != 0.25 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestNoTrace: an id of zeros is none, and what has none has no session.
func TestNoTrace(t *testing.T) {
	res := logs(t, `{"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.version","value":{"stringValue":"1"}}`,
		`{"eventName":"x","traceId":"00000000000000000000000000000000"}`)
	if res.Events() != 0 || len(res.Rejected) != 1 {
		t.Errorf("%+v", res)
	}
}

// TestNoArray: a signal that is no array is no body without records.
func TestNoArray(t *testing.T) {
	_, err := Decode(&dialect.Request{Target: &url.URL{Path: "/v1/logs"}, Header: map[string]string{}, Body: []byte(`{"resourceLogs":{"resource":{}}}`), Now: 1})
	if !errors.Is(err, dialect.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// TestNoRecord: what is no record is rejected, and no line of a log.
func TestNoRecord(t *testing.T) {
	if res := logs(t, who, `5`, `{"eventName":"x"}`); res.Events() != 1 || len(res.Rejected) != 1 {
		t.Errorf("%+v", res)
	}
}
