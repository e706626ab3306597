package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/ingest/lane"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/journal"
	"serin.dev/serin/internal/tenant"
)

// edge is an edge behind a real HTTP server, with a real journal.
type edge struct {
	url string
	log *journal.Log
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{
		{Key: "pk_open"},
		{Key: "pk_site", App: "shop-web", Origins: []string{"https://*.shop.example"}},
	}}, {ID: "other", Keys: []tenant.Key{{Key: "pk_other"}}}})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	log, err := j.Log(t.Context(), "events", journal.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: log, Logger: slog.New(slog.DiscardHandler), Fail: func(err error) { t.Errorf("the journal failed: %v", err) }})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	url, stop := listen(t, e)
	t.Cleanup(func() {
		stop()
		cancel()
		wg.Wait()
	})
	return &edge{url, log}
}

// runs has an edge store groups until the test ends.
func runs(t testing.TB, e *Edge) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// listen serves an edge as the server does: by a lane, and net/http beside it.
func listen(t testing.TB, e *Edge) (url string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := lane.New(lane.Options{Handler: e.Front(), MaxBody: MaxBody, TooLarge: TooLarge, HeaderTimeout: time.Minute, BodyTimeout: time.Minute,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute})
	rest := &http.Server{Handler: e}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Serve(l); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { _ = rest.Serve(f.Rest()) })
	return "http://" + l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		_ = rest.Close() // hijacked streams are the edge's to end
		wg.Wait()
	}
}

// stored returns the journal's beacons as TENANT/SESSION/SEQ, with the number
// of events of each.
func (e *edge) stored(t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	_, last, err := e.log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last == 0 {
		return all
	}
	err = e.log.Scan(t.Context(), 1, last, func(m journal.Message) error {
		return batch.ReadGroup(m.Data, func(id tenant.ID, b *event.Beacon) error {
			name := fmt.Sprintf("%s/%s/%d", id, b.Session, b.Seq)
			if _, twice := all[name]; twice {
				t.Errorf("%s is stored twice", name)
			}
			all[name] = len(b.Events)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tenancies returns the tenancy of each stored session.
func (e *edge) tenancies(t *testing.T) map[string]event.Tenancy {
	t.Helper()
	all := map[string]event.Tenancy{}
	_, last, err := e.log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = e.log.Scan(t.Context(), 1, last, func(m journal.Message) error {
		return batch.ReadGroup(m.Data, func(_ tenant.ID, b *event.Beacon) error {
			all[b.Session] = b.Tenancy
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// numbers returns how often each sequence number is stored.
func (e *edge) numbers(t *testing.T) map[uint32]int {
	t.Helper()
	all := map[uint32]int{}
	_, last, err := e.log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = e.log.Scan(t.Context(), 1, last, func(m journal.Message) error {
		return batch.ReadGroup(m.Data, func(_ tenant.ID, b *event.Beacon) error {
			all[b.Seq]++
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// answered is what the server said.
type answered struct {
	status   int
	header   http.Header
	Accepted int
	Rejected []rejection
	Error    struct{ Reason, Field, Value, Want, Message string }
}

func (e *edge) send(t *testing.T, key, body string, header ...string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+"/v1/beacons?key="+key, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	a := answered{status: res.StatusCode, header: res.Header}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatalf("the answer is not JSON: %v: %s", err, text)
		}
	}
	return a
}

// beaconText is a beacon with the given events.
func beaconText(seq int, events string) string {
	return fmt.Sprintf(`{"v":1,"sdk":"t/1","app":"shop-web","release":"1","session":"session-0","seq":%d,"sent":%d,"ctx":{"platform":"web"},"events":[%s]}`,
		seq, time.Now().UnixMilli(), events)
}

func viewText(t time.Time) string { return fmt.Sprintf(`{"k":"view","n":"/","t":%d}`, t.UnixMilli()) }

func packed(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBadInput sends input of every bad kind, each followed by a good beacon
// from another tenant, which it must not cost anything.
func TestBadInput(t *testing.T) {
	e := newEdge(t)
	now := time.Now()
	good := viewText(now)
	gzipped := []string{"Content-Encoding", "gzip"}
	for i, c := range []struct {
		name   string
		key    string
		body   string
		header []string
		status int
		reason event.Reason
		field  string
	}{
		{"no body", "pk_open", "", nil, 400, event.ReasonJSON, ""},
		{"not JSON", "pk_open", "hello", nil, 400, event.ReasonJSON, ""},
		{"an array", "pk_open", "[1,2]", nil, 400, event.ReasonType, ""},
		{"JSON that ends early", "pk_open", beaconText(0, good)[:80], nil, 400, event.ReasonJSON, ""},
		{"two values", "pk_open", beaconText(0, good) + "{}", nil, 400, event.ReasonJSON, ""},
		{"a wrong type", "pk_open", strings.Replace(beaconText(0, good), `"seq":0`, `"seq":"0"`, 1), nil, 400, event.ReasonType, "seq"},
		{"a missing field", "pk_open", strings.Replace(beaconText(0, good), `"release":"1",`, ``, 1), nil, 400, event.ReasonMissing, "release"},
		{"another version", "pk_open", strings.Replace(beaconText(0, good), `"v":1`, `"v":2`, 1), nil, 400, event.ReasonVersion, "v"},
		{"a key twice", "pk_open", strings.Replace(beaconText(0, good), `"v":1`, `"v":1,"v":1`, 1), nil, 400, event.ReasonDupKey, "v"},
		{"deep nesting", "pk_open", `{"v":` + strings.Repeat("[", 100_000), nil, 400, event.ReasonDepth, ""},
		{"deep nesting in an unknown field", "pk_open", strings.Replace(beaconText(0, good), `"v":1`, `"v":1,"x":`+strings.Repeat(`{"a":`, 500)+"1"+strings.Repeat("}", 500), 1), nil, 400, event.ReasonDepth, ""},
		{"invalid UTF-8", "pk_open", strings.Replace(beaconText(0, good), `"/"`, "\"\xff\xfe\"", 1), nil, 400, event.ReasonJSON, ""},
		{"10 MB", "pk_open", strings.Repeat(" ", 10<<20), nil, 413, event.ReasonSize, ""},
		{"10 MB inside gzip", "pk_open", packed(t, make([]byte, 10<<20)), gzipped, 413, event.ReasonSize, "body"},
		{"a bomb of gzip", "pk_open", packed(t, bytes.Repeat([]byte(" "), 900_000)), gzipped, 413, event.ReasonSize, "body"},
		{"gzip that is none", "pk_open", beaconText(0, good), gzipped, 400, event.ReasonEncoding, "Content-Encoding"},
		{"gzip cut short", "pk_open", packed(t, []byte(beaconText(0, good)))[:60], gzipped, 400, event.ReasonEncoding, "body"},
		{"an encoding that is not known", "pk_open", beaconText(0, good), []string{"Content-Encoding", "br"}, 415, event.ReasonEncoding, "Content-Encoding"},
		{"a content type that is not known", "pk_open", beaconText(0, good), []string{"Content-Type", "image/png"}, 415, event.ReasonEncoding, "Content-Type"},
		{"a charset that is not UTF-8", "pk_open", beaconText(0, good), []string{"Content-Type", "application/json; charset=utf-16"}, 415, event.ReasonEncoding, "Content-Type"},
		{"no key", "", beaconText(0, good), nil, 401, event.ReasonKey, "key"},
		{"an unknown key", "pk_nobody", beaconText(0, good), nil, 401, event.ReasonKey, "key"},
		{"a foreign origin", "pk_site", beaconText(0, good), []string{"Origin", "https://evil.example"}, 403, event.ReasonOrigin, "Origin"},
		{"an origin that looks alike", "pk_site", beaconText(0, good), []string{"Origin", "https://evilshop.example"}, 403, event.ReasonOrigin, "Origin"},
		{"an app that is not the key's", "pk_site", strings.Replace(beaconText(0, good), "shop-web", "shop-ios", 1), nil, 403, event.ReasonApp, "app"},
		{"a session that is a path", "pk_open", strings.Replace(beaconText(0, good), "session-0", "../../../etc", 1), nil, 400, event.ReasonType, "session"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := e.send(t, c.key, c.body, c.header...)
			if a.status != c.status || a.Error.Reason != string(c.reason) || c.field != "" && a.Error.Field != c.field {
				t.Errorf("got %d %+v; want %d, %s, %s", a.status, a.Error, c.status, c.reason, c.field)
			}
			if a.Error.Want == "" || a.Error.Message == "" || len(a.Error.Value) > 200 {
				t.Errorf("the error does not say what is allowed, or repeats too much: %+v", a.Error)
			}
			if b := e.send(t, "pk_other", beaconText(i, good)); b.status != http.StatusAccepted || b.Accepted != 1 {
				t.Errorf("the next tenant's good beacon got %d %+v", b.status, b.Error)
			}
		})
	}
	for name := range e.stored(t) {
		if !strings.HasPrefix(name, "other/") {
			t.Errorf("%s is stored", name)
		}
	}
}

// TestBadEvents mixes bad events with good ones: only the bad ones are lost,
// and the answer names each by its place.
func TestBadEvents(t *testing.T) {
	e := newEdge(t)
	now := time.Now()
	good := viewText(now)
	for i, c := range []struct {
		name, event string
		reason      event.Reason
		field       string
	}{
		{"NaN", fmt.Sprintf(`{"k":"vital","n":"LCP","t":%d,"v":"NaN"}`, now.UnixMilli()), event.ReasonType, "events[1].v"},
		{"no number at all", fmt.Sprintf(`{"k":"vital","n":"LCP","t":%d}`, now.UnixMilli()), event.ReasonMissing, "events[1].v"},
		{"a negative duration", fmt.Sprintf(`{"k":"vital","n":"LCP","t":%d,"v":-1}`, now.UnixMilli()), event.ReasonRange, "events[1].v"},
		{"a number without end", fmt.Sprintf(`{"k":"metric","n":"x","t":%d,"v":1e999}`, now.UnixMilli()), event.ReasonRange, "events[1].v"},
		{"an unknown kind", fmt.Sprintf(`{"k":"poison","n":"x","t":%d}`, now.UnixMilli()), event.ReasonKind, "events[1].k"},
		{"an unknown vital", fmt.Sprintf(`{"k":"vital","n":"SPEED","t":%d,"v":1}`, now.UnixMilli()), event.ReasonName, "events[1].n"},
		{"a name too long", fmt.Sprintf(`{"k":"event","n":%q,"t":%d}`, strings.Repeat("x", 5000), now.UnixMilli()), event.ReasonLength, "events[1].n"},
		{"a clock years behind", viewText(now.AddDate(-3, 0, 0)), event.ReasonClock, "events[1].t"},
		{"a clock years ahead", viewText(now.AddDate(3, 0, 0)), event.ReasonClock, "events[1].t"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := e.send(t, "pk_open", beaconText(i, good+","+c.event+","+good))
			if a.status != http.StatusAccepted || a.Accepted != 2 || len(a.Rejected) != 1 {
				t.Fatalf("got %d, %d accepted, %+v, %+v", a.status, a.Accepted, a.Rejected, a.Error)
			}
			if r := a.Rejected[0]; r.Index != 1 || r.Reason != c.reason || r.Field != c.field || r.Want == "" {
				t.Errorf("got %+v; want index 1, %s, %s", r, c.reason, c.field)
			}
			if n := e.stored(t)[fmt.Sprintf("shop/session-0/%d", i)]; n != 2 {
				t.Errorf("%d events are stored, want 2", n)
			}
		})
	}
}

// TestClockYearsOff has a client whose whole clock is wrong: what it saw is
// moved by the difference, and kept.
func TestClockYearsOff(t *testing.T) {
	e := newEdge(t)
	theirs := time.Now().AddDate(-5, 0, 0)
	body := beaconText(0, "")
	body = body[:strings.Index(body, `"sent":`)] + fmt.Sprintf(`"sent":%d,"events":[%s]}`, theirs.UnixMilli(), viewText(theirs.Add(-time.Second)))
	if a := e.send(t, "pk_open", body); a.status != http.StatusAccepted || a.Accepted != 1 {
		t.Errorf("got %d %+v %+v", a.status, a.Rejected, a.Error)
	}
}

// TestClockMinutesOff has clients whose clock is a little wrong: none loses what it
// saw, whichever way it is off.
func TestClockMinutesOff(t *testing.T) {
	e := newEdge(t)
	seq := 0
	for _, off := range []time.Duration{-6 * time.Minute, -4 * time.Minute, -time.Minute, 59 * time.Second, 62 * time.Second, 2 * time.Minute, 4 * time.Minute, 6 * time.Minute} {
		theirs := time.Now().Add(off)
		body := beaconText(seq, "")
		seq++
		body = body[:strings.Index(body, `"sent":`)] + fmt.Sprintf(`"sent":%d,"events":[%s]}`, theirs.UnixMilli(), viewText(theirs))
		if a := e.send(t, "pk_open", body); a.Accepted != 1 {
			t.Errorf("a clock off by %s: got %d %+v %+v", off, a.status, a.Rejected, a.Error)
		}
	}
}

func TestGzipAndOriginsThatAreGood(t *testing.T) {
	e := newEdge(t)
	if a := e.send(t, "pk_open", packed(t, []byte(beaconText(0, viewText(time.Now())))), "Content-Encoding", "gzip"); a.Accepted != 1 {
		t.Errorf("gzip: %d %+v", a.status, a.Error)
	}
	a := e.send(t, "pk_site", beaconText(1, viewText(time.Now())), "Origin", "https://www.shop.example", "Content-Type", "application/json")
	if a.Accepted != 1 || a.header.Get("Access-Control-Allow-Origin") != "https://www.shop.example" || a.header.Get("Vary") != "Origin" {
		t.Errorf("origin: %d %v %+v", a.status, a.header, a.Error)
	}
	if n := len(e.stored(t)); n != 2 {
		t.Errorf("%d beacons are stored, want 2", n)
	}
}

func TestPreflight(t *testing.T) {
	e := newEdge(t)
	for _, c := range []struct{ key, origin, want string }{
		{"pk_site", "https://www.shop.example", "https://www.shop.example"},
		{"pk_site", "https://evil.example", ""},
		{"pk_nobody", "https://www.shop.example", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, e.url+"/v1/beacons?key="+c.key, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", c.origin)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Access-Control-Allow-Origin"); res.StatusCode != http.StatusNoContent || got != c.want {
			t.Errorf("%s from %s: %d, origin %q; want %q", c.key, c.origin, res.StatusCode, got, c.want)
		}
		if got := res.Header.Get("Access-Control-Allow-Headers"); c.want != "" && !strings.Contains(got, "Baggage") {
			t.Errorf("a page may send %q, and no tenancy in transit", got)
		}
	}
}

// brokenLog refuses every write after a while, as a disk does that is full.
type brokenLog struct{ err error }

func (b brokenLog) Append(context.Context, []byte) (uint64, error) { return 0, b.err }

// TestNothingIsAcknowledgedThatIsNotStored has the journal refuse.
func TestNothingIsAcknowledgedThatIsNotStored(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_open"}}}})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left on device")
	failed := make(chan error, 1)
	e := New(Options{Tenants: d, Journal: brokenLog{full}, Logger: slog.New(slog.DiscardHandler), Fail: func(err error) {
		select {
		case failed <- err:
		default:
		}
	}})
	runs(t, e)
	s := httptest.NewServer(e)
	defer s.Close()
	a := (&edge{url: s.URL}).send(t, "pk_open", beaconText(0, viewText(time.Now())))
	if a.status != http.StatusServiceUnavailable || a.Error.Reason != string(event.ReasonBusy) || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %+v %v", a.status, a.Error, a.header)
	}
	if err := <-failed; !errors.Is(err, full) {
		t.Errorf("the process was told %v", err)
	}
}

// TestGroupsShareSyncs sends many beacons at once: all are stored once, and in
// far fewer messages than beacons.
func TestGroupsShareSyncs(t *testing.T) {
	e := newEdge(t)
	const clients, each = 64, 10
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for n := range each {
				body := strings.Replace(beaconText(n, viewText(time.Now())), "session-0", fmt.Sprintf("session-%d", c), 1)
				if a := e.send(t, "pk_open", body); a.status != http.StatusAccepted {
					t.Errorf("client %d, beacon %d: %d %+v", c, n, a.status, a.Error)
				}
			}
		})
	}
	wg.Wait()
	if n := len(e.stored(t)); n != clients*each {
		t.Errorf("%d beacons are stored, want %d", n, clients*each)
	}
	_, last, err := e.log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last > clients*each/2 {
		t.Errorf("%d messages for %d beacons", last, clients*each)
	}
}
