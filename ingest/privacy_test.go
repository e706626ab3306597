package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/beacon"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// memoryLog keeps the messages.
type memoryLog struct {
	mu       sync.Mutex
	messages [][]byte
}

func (l *memoryLog) Append(_ context.Context, data []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, slices.Clone(data))
	return uint64(len(l.messages)), nil
}

// beacons returns what is stored of a session, by its context and user.
func (l *memoryLog) beacons(t *testing.T) map[string]event.Beacon {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]event.Beacon{}
	for _, m := range l.messages {
		err := batch.ReadGroup(m, func(id tenant.ID, b *event.Beacon) error {
			all[id.String()+"/"+b.Session] = event.Beacon{User: b.User, Ctx: b.Ctx}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// privateEdge is an edge behind a server on this host, whose clients are
// proxies that it trusts.
func privateEdge(t *testing.T) (string, *memoryLog) {
	t.Helper()
	d, err := tenant.NewDirectory([]tenant.Spec{
		{ID: "plain", Keys: []tenant.Key{{Key: "pk_plain", App: "shop-web"}}},
		{ID: "open", Privacy: tenant.PrivacySpec{GPC: "ignore"}, Keys: []tenant.Key{{Key: "pk_open", App: "shop-web"}}},
		{ID: "strict", Privacy: tenant.PrivacySpec{GPC: "refuse", DNT: "strip"}, Keys: []tenant.Key{{Key: "pk_strict", App: "shop-web"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	log := &memoryLog{}
	e := New(Options{Tenants: d, Journal: log, Logger: slog.New(slog.DiscardHandler), Fail: func(err error) { t.Error(err) },
		Network: Network{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CountryHeader: "CF-IPCountry", Secret: []byte("secret")}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx) })
	url, stop := listen(t, e)
	t.Cleanup(func() {
		stop()
		cancel()
		wg.Wait()
	})
	return url, log
}

// TestSignalsOnEveryWay sends one session of each tenant and signal by the
// native way, a foreign one and a websocket, and looks at what is stored.
func TestSignalsOnEveryWay(t *testing.T) {
	url, log := privateEdge(t)
	native := func(session string) string {
		return strings.NewReplacer("session-0", session, `"seq"`, `"user":"h:1","seq"`).Replace(beaconText(0, viewText(time.Now())))
	}
	foreign := func(session string) string {
		return `{"meta":{"sdk":{"name":"faro-web","version":"2"},"app":{"name":"shop-web","version":"1"},"session":{"id":"` + session + `"},"user":{"id":"ann"},"page":{"url":"/"}},` +
			`"events":[{"name":"click","timestamp":"` + time.Now().UTC().Format(time.RFC3339Nano) + `"}]}`
	}
	ways := map[string]func(key, session string, header []string) string{
		"native": func(key, session string, header []string) string {
			return post(t, url+"/v1/beacons?key="+key, native(session), header)
		},
		"foreign": func(key, session string, header []string) string {
			return post(t, url+"/faro/collect?key="+key, foreign(session), header)
		},
		"stream": func(key, session string, header []string) string {
			c := open(t, url, key, header...)
			send(t, c, native(session))
			a := answers(t, c)
			if a.Acks[0].Error != nil {
				t.Fatalf("%+v", a.Acks[0].Error)
			}
			if len(a.Acks[0].Rejected) > 0 {
				return string(a.Acks[0].Rejected[0].Reason)
			}
			return ""
		},
	}
	const (
		kept = iota
		stripped
		refused
	)
	before := counted("serin_ingest_privacy_events_total")
	want := map[string]int{}
	for way, do := range ways {
		for _, c := range []struct {
			key    string
			signal string
			want   int
		}{
			{"plain", "", kept}, {"plain", "Sec-GPC", stripped}, {"plain", "DNT", kept},
			{"open", "Sec-GPC", kept}, {"strict", "Sec-GPC", refused}, {"strict", "DNT", stripped}, {"strict", "", kept},
		} {
			session := "s-" + way + "-" + strings.ToLower(c.signal) + "-0"
			header := []string{"X-Forwarded-For", "6.6.6.6, 198.51.100.1", "CF-IPCountry", "DE"}
			if c.signal != "" {
				header = append(header, c.signal, "1")
			}
			answer := do("pk_"+c.key, session, header)
			if strings.Contains(answer, "privacy") != (c.want == refused) {
				t.Errorf("%s, %s, %s: answered %q", way, c.key, c.signal, answer)
			}
			want[c.key+"/"+session] = c.want
		}
	}
	got := log.beacons(t)
	networks := map[string]bool{}
	for name, want := range want {
		b, ok := got[name]
		if ok != (want != refused) {
			t.Errorf("%s: stored %v", name, ok)
			continue
		}
		if !ok {
			continue
		}
		if (b.User == "") != (want == stripped) || (b.Ctx.Prefix == "") != (want == stripped) || b.Ctx.Country != "DE" {
			t.Errorf("%s: user %q, prefix %q, country %q", name, b.User, b.Ctx.Prefix, b.Ctx.Country)
		}
		tenant, _, _ := strings.Cut(name, "/")
		networks[tenant+b.Ctx.Prefix] = true
	}
	if len(networks) != 5 { // three tenants' prefixes, and none of two
		t.Errorf("networks %v", networks)
	}
	for _, m := range log.messages {
		for _, address := range []string{"198.51.100", "6.6.6.6", "127.0.0.1"} {
			if strings.Contains(string(m), address) {
				t.Errorf("the journal holds the address %s", address)
			}
		}
	}
	if n := counted("serin_ingest_privacy_events_total") - before; n != 9 {
		t.Errorf("%d events are counted as stripped or refused, want 9", n)
	}
}

func post(t *testing.T, url, body string, header []string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
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
	defer res.Body.Close()
	var text strings.Builder
	if err := res.Write(&text); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusAccepted {
		t.Errorf("%s: %s", url, text.String())
	}
	return text.String()
}

// counted sums a counter over its labels.
func counted(name string) (sum int) {
	for _, full := range metrics.ListMetricNames() {
		if strings.HasPrefix(full, name+"{") {
			sum += int(metrics.GetOrCreateCounter(full).Get())
		}
	}
	return sum
}

func TestSeveralForwardingLinesAreOne(t *testing.T) {
	h := http.Header{"X-Forwarded-For": {"6.6.6.6", "198.51.100.1"}}
	if got := headerOf(h)("x-forwarded-for"); got != "6.6.6.6,198.51.100.1" {
		t.Errorf("%q", got)
	}
}

// BenchmarkClientOfRequest is what the edge adds to each HTTP request.
func BenchmarkClientOfRequest(b *testing.B) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_1"}}}})
	if err != nil {
		b.Fatal(err)
	}
	g, err := d.Key("pk_1")
	if err != nil {
		b.Fatal(err)
	}
	e := New(Options{Tenants: d, Network: Network{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, CountryHeader: "CF-IPCountry"}})
	r := httptest.NewRequest(http.MethodPost, "/v1/beacons", nil)
	r.RemoteAddr = "10.0.0.1:4711"
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	r.Header.Set("CF-IPCountry", "DE")
	b.ReportAllocs()
	for b.Loop() {
		if c := e.perimeter.Client(g, peerOf(r), headerOf(r.Header), 1_795_000_000_000); c.Country != "DE" || c.Prefix == "" {
			b.Fatal(c)
		}
	}
}

// TestEqualAttributes has two events with the same attributes, which are written to where
// they stand as they are scrubbed: each has its own.
func TestEqualAttributes(t *testing.T) {
	one := `{"k":"event","n":"x","t":1764000000000,"a":{"a@example.com":"1","b@example.com":"2"}}`
	var d beacon.Decoder
	var b event.Beacon
	if bad, err := d.Decode([]byte(`{"v":1,"app":"shop-web","release":"1","session":"0123456789abcdef","seq":0,"sent":1764000000000,"events":[`+one+`,`+one+`]}`), &b); err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	var spec tenant.Scrub
	spec.Rules = ^spec.Rules
	admit.Scrub(&spec, nil, &b)
	if first, second := b.Events[0].Attrs, b.Events[1].Attrs; len(first) != 1 || !slices.Equal(first, second) {
		t.Errorf("%v and %v", first, second)
	}
}
