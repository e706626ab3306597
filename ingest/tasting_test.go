package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/ingest/taste"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// TestMain is a taster where the variable says so. No body is known that kills
// the decoders, so this one dies of a word.
func TestMain(m *testing.M) {
	if os.Getenv("SERIN_TASTER") == "" {
		os.Exit(m.Run())
	}
	err := taste.Serve(taste.DefaultLimits, os.Stdin, os.Stdout, func(q, a []byte) []byte {
		s, err := readSip(q)
		if err != nil {
			os.Exit(9)
		}
		body := s.Request.Body
		if encoding := s.Request.Header["content-encoding"]; encoding != "" {
			if body, _ = new(unpacker).inflate(body, encoding); body == nil {
				os.Exit(9)
			}
		}
		if bytes.Contains(body, []byte("arsenic")) {
			os.Exit(9)
		}
		answer := decodeSip(new(decoding), &s)
		return answer.put(a)
	})
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// mortalTaster is a child that dies of the word arsenic.
func mortalTaster() *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SERIN_TASTER=1")
	return cmd
}

func TestPoisonIsQuarantined(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_shop"}}}, {ID: "other", Keys: []tenant.Key{{Key: "pk_other"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: slowLog{}, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}, TasteAll: true,
		Network: Network{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}},
		Taster:  mortalTaster})
	runs(t, e)
	url, stop := listen(t, e)
	defer stop()
	client := "192.0.2.1"
	send := func(path, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "text/plain")
		req.Header.Set("X-Forwarded-For", client)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	faro := func(word string) string {
		return fmt.Sprintf(`{"meta":{"app":{"name":"a","version":"1"},"session":{"id":"session-0"}},"events":[{"name":%q}]}`, word)
	}
	reason := func(text string) event.Reason {
		var a struct{ Error struct{ Reason event.Reason } }
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return a.Error.Reason
	}
	if status, text := send("/faro/collect/pk_shop", faro("water")); status != http.StatusAccepted {
		t.Errorf("water: %d %s", status, text)
	}
	if status, text := send("/faro/collect/pk_shop", faro("arsenic")); status != http.StatusBadRequest || reason(text) != event.ReasonPoison {
		t.Errorf("arsenic: %d %s", status, text)
	}
	if status, text := send("/faro/collect/pk_shop", faro("water")); status != http.StatusBadRequest || reason(text) != event.ReasonJail {
		t.Errorf("the same form: %d %s", status, text)
	}
	if status, text := send("/faro/collect/pk_other", faro("water")); status != http.StatusAccepted {
		t.Errorf("the same form of another tenant: %d %s", status, text)
	}
	// Native bodies are tasted as well, and say the same as decoded here.
	if status, text := send("/v1/beacons?key=pk_shop", beaconText(1, `{"k":"poison","n":"x","t":1}`)); status != http.StatusAccepted || !strings.Contains(text, `"reason":"kind"`) {
		t.Errorf("native: %d %s", status, text)
	}
	shop, err := d.Key("pk_shop")
	if err != nil {
		t.Fatal(err)
	}
	list := e.tasters.Quarantined("shop")
	if len(list) != 1 || list[0].Cause != "exit" {
		t.Fatalf("%+v", list)
	}
	if body, ok := e.QuarantinedBody(shop.Tenant, list[0].ID); !ok || !bytes.Contains(body, []byte("arsenic")) {
		t.Errorf("the body is %q", body)
	}
	if !e.Release(shop.Tenant, list[0].Fingerprint) {
		t.Error("not released")
	}
	if status, text := send("/faro/collect/pk_shop", faro("water")); status != http.StatusAccepted {
		t.Errorf("after its release: %d %s", status, text)
	}
	// A burst of quarantined bodies has its network refused, and no other one with
	// that key, which is public.
	client = "198.51.100.1"
	if status, text := send("/faro/collect/pk_shop", faro("arsenic")); status != http.StatusBadRequest || reason(text) != event.ReasonPoison {
		t.Errorf("arsenic again: %d %s", status, text)
	}
	refused := 0
	for range maxBad/harm + 1 {
		switch status, text := send("/faro/collect/pk_shop", faro("water")); {
		case status == http.StatusTooManyRequests && reason(text) == event.ReasonBreaker:
			refused++
		case status != http.StatusBadRequest || reason(text) != event.ReasonJail:
			t.Errorf("of the burst: %d %s", status, text)
		}
	}
	if refused != 2 { // with the poison itself the breaker is full one earlier
		t.Errorf("%d of the burst were refused unread, want 2", refused)
	}
	client = "192.0.2.1"
	if status, text := send("/v1/beacons?key=pk_shop", beaconText(2, viewText(time.Now()))); status != http.StatusAccepted {
		t.Errorf("another network with the key: %d %s", status, text)
	}
}

// TestPoisonOfAStream has one network send poison over a websocket: its form is
// refused there, and not to others with the key, whatever way they come.
func TestPoisonOfAStream(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_shop"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: slowLog{}, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}, TasteAll: true,
		Network: Network{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}},
		Taster:  mortalTaster})
	runs(t, e)
	url, stop := listen(t, e)
	defer stop()
	bad := open(t, url, "pk_shop", "X-Forwarded-For", "192.0.2.1")
	good := open(t, url, "pk_shop", "X-Forwarded-For", "198.51.100.1")
	at := time.Now().UnixMilli()
	text := func(seq int, word string) string {
		return beaconText(seq, fmt.Sprintf(`{"k":"view","n":%q,"t":%d}`, word, at))
	}
	for i, c := range []struct {
		stream *websocket.Conn
		word   string
		reason event.Reason
	}{{bad, "arsenic", event.ReasonPoison}, {bad, "water", event.ReasonJail}, {good, "water", ""}} {
		send(t, c.stream, text(i, c.word))
		a := answers(t, c.stream)
		got := event.Reason("")
		if a.Acks[0].Error != nil {
			got = a.Acks[0].Error.Reason
		}
		if got != c.reason {
			t.Errorf("%s, message %d: reason %q, want %q", c.word, i, got, c.reason)
		}
	}
	if list := e.tasters.Quarantined("shop"); len(list) != 1 || list[0].Network == "" {
		t.Errorf("%+v", list)
	}
}

// TestTenancyOfTheKey has beacons of a key for tests name no tenancy, or production,
// decoded here and in a child.
func TestTenancyOfTheKey(t *testing.T) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_test", Tenancy: "test"}, {Key: "pk_shop"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tasteAll := range []bool{false, true} {
		log := new(keepingLog)
		o := Options{Tenants: d, Journal: log, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}, TasteAll: tasteAll}
		if tasteAll {
			o.Taster = mortalTaster
		}
		e := New(o)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { e.Run(ctx) })
		url, stop := listen(t, e)
		client := &edge{url: url}
		text := beaconText(1, viewText(time.Now()))
		claim := strings.Replace(text, `"app"`, `"tenancy":"production","app"`, 1)
		for i, c := range []struct {
			key, text string
			status    int
		}{{"pk_test", text, http.StatusAccepted}, {"pk_test", claim, http.StatusForbidden}, {"pk_shop", text, http.StatusAccepted}, {"pk_shop", claim, http.StatusAccepted}} {
			if a := client.send(t, c.key, strings.Replace(c.text, "session-0", fmt.Sprintf("session-%d-%s", i, c.key), 1)); a.status != c.status {
				t.Errorf("tasted %v, beacon %d: %d %+v, want %d", tasteAll, i, a.status, a.Error, c.status)
			}
		}
		stream := open(t, url, "pk_test")
		send(t, stream, strings.Replace(text, "session-0", "session-4-pk_test", 1))
		if a := answers(t, stream); a.Acks[0].Error != nil {
			t.Errorf("tasted %v, stream: %+v", tasteAll, a.Acks[0].Error)
		}
		stream.Close()
		stop()
		cancel()
		wg.Wait()
		stored := 0
		for _, m := range log.msgs {
			err := batch.ReadGroup(m, func(_ tenant.ID, b *event.Beacon) error {
				stored++
				if test := strings.HasSuffix(b.Session, "pk_test"); test != (b.Tenancy == event.Test) {
					t.Errorf("tasted %v: %s is stored as %s", tasteAll, b.Session, b.Tenancy)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if stored != 4 {
			t.Errorf("tasted %v: %d are stored", tasteAll, stored)
		}
	}
}

// TestCrossing has every recorded request, and what becomes of it, cross as it
// does between processes, and cut short at every length.
func TestCrossing(t *testing.T) {
	for _, c := range sdks {
		for _, capture := range captures(t, c.capture) {
			q := sip{Protocol: c.protocol, Target: capture.Target, Request: dialect.Request{Method: capture.Method, Header: map[string]string{}, Body: capture.Body,
				Now: recorded.UnixMilli(), App: "a", Key: "k", Peer: "p"}}
			for k, v := range capture.Headers {
				q.Request.Header[strings.ToLower(k)] = v
			}
			there, err := readSip(q.put(nil))
			if err != nil || !reflect.DeepEqual(there, q) {
				t.Fatalf("%s: %v: %+v", c.capture, err, there)
			}
			want := decodeSip(new(decoding), &there)
			back := want.put(nil)
			got, err := readSwallowed(back)
			if err != nil || !reflect.DeepEqual(normal(got), normal(want)) {
				t.Fatalf("%s: %v:\n%+v\n%+v", c.capture, err, got, want)
			}
			for n := range len(back) {
				if _, err := readSwallowed(back[:n]); err == nil {
					t.Fatalf("%s: %d of %d bytes are an answer", c.capture, n, len(back))
				}
			}
		}
	}
	for _, bad := range []swallowed{{Refusal: &spat{400, "json", "body", "x", "y"}}, {Result: dialect.Result{Rejected: []dialect.Rejection{{Index: 3, Reason: "json", Field: "f", Value: "v", Want: "w"}},
		Ignored: map[string]int{"replay": 2}, Drops: []event.Dropped{{Cause: "a", Count: 1 << 40}}}}} {
		if got, err := readSwallowed(bad.put(nil)); err != nil || !reflect.DeepEqual(got, bad) {
			t.Errorf("%v: %+v, want %+v", err, got, bad)
		}
	}
}

// normal takes the difference of nil and empty out of an answer.
func normal(a swallowed) swallowed {
	for i := range a.Result.Beacons {
		b := &a.Result.Beacons[i]
		b.Arms, b.Drops = append([]event.Arm{}, b.Arms...), append([]event.Dropped{}, b.Drops...)
		for k := range b.Events {
			b.Events[k].Attrs = append([]event.Attr{}, b.Events[k].Attrs...)
		}
	}
	return a
}
