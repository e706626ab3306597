package ingest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/tenant"
)

// edgeWithTasters serves an edge whose tasters die of the word arsenic.
func edgeWithTasters(t *testing.T, all bool) (e *Edge, send func(path, encoding, body string) int) {
	t.Helper()
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_shop"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e = New(Options{Tenants: d, Journal: slowLog{}, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}, TasteAll: all,
		Taster: mortalTaster})
	runs(t, e)
	url, stop := listen(t, e)
	t.Cleanup(stop)
	return e, func(path, encoding, body string) int {
		if encoding == "gzip" {
			var buf bytes.Buffer
			w := gzip.NewWriter(&buf)
			if _, err := w.Write([]byte(body)); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			body = buf.String()
		}
		r, err := http.NewRequest(http.MethodPost, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "text/plain")
		if encoding != "" {
			r.Header.Set("Content-Encoding", encoding)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
}

func faroEvent(release, word string) string {
	return fmt.Sprintf(`{"meta":{"sdk":{"name":"faro","version":"1.2.3"},"app":{"name":"a","version":%q},"session":{"id":"session-0"}},"events":[{"name":%q}]}`, release, word)
}

// A child dies of arsenic and this process does not, which is how the test
// tells where a body was decoded.
func TestFamiliarBodiesNeedNoTaster(t *testing.T) {
	for _, c := range []struct {
		name, path, encoding string
		body                 func(release, word string) string
		learn                int // bodies until the kind is familiar
	}{
		{"faro", "/faro/collect/pk_shop", "", faroEvent, trials},
		{"faro, packed", "/faro/collect/pk_shop", "gzip", faroEvent, 2 * trials},
		{"native", "/v1/beacons?key=pk_shop", "", nativeEvent, trials},
		{"native, packed", "/v1/beacons?key=pk_shop", "gzip", nativeEvent, 2 * trials},
	} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all=%v", c.name, all), func(t *testing.T) {
				t.Parallel()
				_, send := edgeWithTasters(t, all)
				for i := range c.learn {
					if status := send(c.path, c.encoding, c.body("1", "water")); status != http.StatusAccepted {
						t.Fatalf("body %d: status %d", i, status)
					}
				}
				want := http.StatusAccepted
				if all {
					want = http.StatusBadRequest
				}
				if status := send(c.path, c.encoding, c.body("1", "arsenic")); status != want {
					t.Errorf("a familiar kind: status %d, want %d", status, want)
				}
				if status := send(c.path, c.encoding, c.body("2", "arsenic")); status != http.StatusBadRequest {
					t.Errorf("a new release: status %d, want 400", status)
				}
			})
		}
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func nativeEvent(release, word string) string {
	return fmt.Sprintf(`{"v":1,"sdk":"serin-js/1.0.0","app":"a","release":%q,"session":"session-0","seq":1,"sent":1764000000000,"events":[{"k":"event","n":%q,"t":1764000000000}]}`, release, word)
}

// What did harm once stays strange, even when its form is released from the
// quarantine.
func TestCondemnedKindsStayStrange(t *testing.T) {
	e, send := edgeWithTasters(t, false)
	const path = "/faro/collect/pk_shop"
	if status := send(path, "", faroEvent("1", "arsenic")); status != http.StatusBadRequest {
		t.Fatalf("arsenic: status %d", status)
	}
	shop, err := e.o.Tenants.Key("pk_shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range e.tasters.Quarantined("shop") {
		if !e.Release(shop.Tenant, q.Fingerprint) {
			t.Fatal("not released")
		}
	}
	for range 2 * trials {
		if status := send(path, "", faroEvent("1", "water")); status != http.StatusAccepted {
			t.Fatalf("water: status %d", status)
		}
	}
	if status := send(path, "", faroEvent("1", "arsenic")); status != http.StatusBadRequest {
		t.Errorf("arsenic of a condemned kind: status %d, want 400", status)
	}
}

// The kinds of what real SDKs send tell their releases and SDKs apart.
func TestForeignKinds(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_shop"}}}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.Key("pk_shop")
	if err != nil {
		t.Fatal(err)
	}
	kind := func(protocol, agent, body string) string {
		r := dialect.Request{Target: mustURL(t, "/x"), Header: map[string]string{"user-agent": agent, "content-type": "application/json"}}
		return string(foreignKey(nil, g, protocol, &r, []byte(body)))
	}
	otlp := func(version string) string {
		return "\n\x10\n\x0fservice.version\x12" + string(rune(len(version)+2)) + "\n" + string(rune(len(version))) + version + "\x12\x00"
	}
	for _, c := range []struct {
		name, protocol string
		a, b           [2]string // user agent, body
		same           bool
	}{
		{"the same", "faro", [2]string{"", faroEvent("1", "a")}, [2]string{"", faroEvent("1", "b")}, true},
		{"another release", "faro", [2]string{"", faroEvent("1", "a")}, [2]string{"", faroEvent("2", "a")}, false},
		{"another browser", "faro", [2]string{"Mozilla/5.0 a", faroEvent("1", "a")}, [2]string{"Mozilla/5.0 b", faroEvent("1", "a")}, true},
		{"another exporter", "otlp", [2]string{"OTel/1", otlp("1.0")}, [2]string{"OTel/2", otlp("1.0")}, false},
		{"another release in protobuf", "otlp", [2]string{"", otlp("1.0")}, [2]string{"", otlp("1.1")}, false},
		{"the same release in protobuf", "otlp", [2]string{"", otlp("1.0")}, [2]string{"", otlp("1.0")}, true},
		{"another release in JSON", "otlp", [2]string{"", `{"key":"service.version","value":{"stringValue":"1"}}`}, [2]string{"", `{"key":"service.version","value":{"stringValue":"2"}}`}, false},
		{"deeper", "sentry", [2]string{"", `{"a":[[1]]}`}, [2]string{"", `{"a":[[[[[[[[1]]]]]]]]}`}, false},
		{"longer", "sentry", [2]string{"", `{"a":"b"}`}, [2]string{"", `{"a":"` + strings.Repeat("b", 99) + `"}`}, false},
	} {
		if a, b := kind(c.protocol, c.a[0], c.a[1]), kind(c.protocol, c.b[0], c.b[1]); (a == b) != c.same {
			t.Errorf("%s: %q and %q", c.name, a, b)
		}
	}
}
