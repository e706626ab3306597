package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serin.dev/serin/alerting/policy"
	"serin.dev/serin/analysis/verdict"
)

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the standard's own examples

func secret(t *testing.T, text string) Secret {
	t.Helper()
	s, err := ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignatureIsTheStandards(t *testing.T) {
	// The example of the specification.
	target := Target{Tenant: "t", Name: "n", URL: "https://x.example", Secrets: []Secret{secret(t, secretText)}}
	h, err := target.sign(Message{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Body: []byte(`{"test": 2432232314}`)}, time.Unix(1614265330, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.Get("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
	// And by hand.
	mac := hmac.New(sha256.New, target.Secrets[0].key)
	fmt.Fprintf(mac, "%s.%d.%s", "id", 7, "body")
	h, err = target.sign(Message{ID: "id", Body: []byte("body")}, time.Unix(7, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.Get("webhook-signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
}

func TestVerify(t *testing.T) {
	old, fresh := secret(t, secretText), secret(t, "whsec_"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
	target := Target{Secrets: []Secret{fresh, old}} // while the secret is rotated
	body := []byte(`{"a":1}`)
	h, err := target.sign(Message{ID: "m", Body: body}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range target.Secrets {
		if err := Verify(s, h, body); err != nil {
			t.Errorf("a receiver with one of both secrets: %v", err)
		}
	}
	if err := Verify(old, h, []byte(`{"a":2}`)); err == nil {
		t.Error("a changed body passes")
	}
	if err := Verify(secret(t, "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))), h, body); err == nil {
		t.Error("another secret passes")
	}
	h.Set("webhook-id", "other")
	if err := Verify(old, h, body); err == nil {
		t.Error("another id passes")
	}
	h, err = target.sign(Message{ID: "m", Body: body}, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(old, h, body); err == nil {
		t.Error("a replay of an hour ago passes")
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := secret(t, secretText)
	tail := strings.TrimPrefix(secretText, "whsec_")
	var log bytes.Buffer
	target := Target{Secrets: []Secret{s}}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "target", target)
	asJSON, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %q", target, s, s), log.String(), string(asJSON)} {
		if strings.Contains(text, tail) || strings.Contains(text, string(s.key)) {
			t.Errorf("it is in %s", text)
		}
	}
	for _, bad := range []string{"", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", tail} {
		if _, err := ParseSecret(bad); err == nil || bad != "" && len(bad) > 8 && strings.Contains(err.Error(), bad) {
			t.Errorf("ParseSecret(%q) gave %v", bad, err)
		}
	}
}

func TestTargetCheck(t *testing.T) {
	for url, want := range map[string]string{
		"https://deploy.example/hook": "", "http://10.0.0.7:8080/": "",
		"ftp://x.example": "want https", "https://": "want https", "deploy.example": "want https", "https://a:b@x.example": "user and password", "https://x.example/#a": "fragment",
	} {
		err := Target{URL: url}.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "a:b@") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

func TestAllowed(t *testing.T) {
	office := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for address, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "10.1.2.3": true, "::ffff:10.1.2.3": true,
		"10.2.0.1": false, "127.0.0.1": false, "::1": false, "169.254.169.254": false, "::ffff:169.254.169.254": false, "192.168.1.1": false,
		"172.16.0.1": false, "100.100.100.200": false, "0.0.0.0": false, "0.1.2.3": false, "::": false, "fe80::1%eth0": false, "fd00:ec2::254": false,
		"224.0.0.1": false, "255.255.255.255": false, "64:ff9b::a9fe:a9fe": false, "2002:7f00:1::": false, "198.18.0.1": false, "240.0.0.1": false,
		"::7f00:1": false, "::ffff:0:a9fe:a9fe": false, "100::1": false, "3fff::1": false, "5f00::1": false, "192.88.99.1": false,
	} {
		if got := allowed(netip.MustParseAddr(address), office); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// TestInternalAddressesAreNotReached uses the client as it is: by address, by
// name, and by a redirect from where it may go to where it may not.
func TestInternalAddressesAreNotReached(t *testing.T) {
	reached := make(chan string, 10)
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- "inner" }))
	defer inner.Close()
	port := inner.URL[strings.LastIndex(inner.URL, ":"):]
	client := NewClient(nil)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"} {
		res, err := client.Post("http://"+host+port, "text/plain", nil)
		if err == nil {
			res.Body.Close()
			t.Errorf("%s was reached", host)
		} else if host != "127.1" && !errors.Is(err, ErrInternal) { // which some resolvers do not know
			t.Errorf("%s: %v", host, err)
		}
	}
	outer := httptest.NewServer(http.RedirectHandler(inner.URL, http.StatusTemporaryRedirect))
	defer outer.Close()
	res, err := NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}).Post(outer.URL, "text/plain", nil)
	if err != nil || res.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("a redirect was followed: %v, %v", res, err)
	}
	if err == nil {
		res.Body.Close()
	}
	if len(reached) > 0 {
		t.Errorf("an internal server was reached")
	}
}

func TestPayload(t *testing.T) {
	b, err := Payload(Standard, "m", &verdict.Verdict{Version: 1, Rollout: "r", Number: 3, Decision: verdict.Rollback, LogEHarm: verdict.Bound(math.Inf(1)), IssuedAt: time.Unix(0, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"type":"verdict","timestamp":"1970-01-01T00:00:00Z","data":{"v":1,`, `"decision":"rollback"`, `"log_e_harm":null`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}

// memory is an outbox that outlives deliverers.
type memory struct {
	mu      sync.Mutex
	waiting []Message
	told    []string
	changed chan struct{}
	fail    error
}

func newMemory(ms ...Message) *memory { return &memory{waiting: ms, changed: make(chan struct{})} }

func (m *memory) Undelivered(context.Context, string, string) ([]Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.waiting), nil
}

func (m *memory) Record(_ context.Context, _, _ string, msg Message, r Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.waiting = slices.DeleteFunc(m.waiting, func(w Message) bool { return w.ID == msg.ID })
	m.told = append(m.told, msg.ID+"="+string(r.Outcome))
	return nil
}

func (m *memory) Overtaken(_, _ string, msg Message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.waiting, func(w Message) bool {
		return w.Stream == msg.Stream && policy.Overtaken(msg.Decision, msg.Number, &verdict.Verdict{Number: w.Number, Decision: w.Decision})
	})
}

func (m *memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *memory) put(ms ...Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = append(m.waiting, ms...)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) outcomes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.told)
}

// answers is a receiver that answers as a test says, without a network, so
// that a test can have synctest's clock.
type answers func(id string, try int) (status int, header http.Header)

type fakeReceiver struct {
	mu     sync.Mutex
	tries  map[string]int
	times  []time.Time
	order  []string
	answer answers
}

func (f *fakeReceiver) Do(r *http.Request) (*http.Response, error) {
	if _, err := io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	id := r.Header.Get("webhook-id")
	f.mu.Lock()
	f.tries[id]++
	try := f.tries[id]
	f.times, f.order = append(f.times, time.Now()), append(f.order, id)
	f.mu.Unlock()
	status, header := f.answer(id, try)
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// deliver runs a deliverer over an outbox for a time of synctest's clock.
func deliver(t *testing.T, box *memory, length time.Duration, answer answers) (*fakeReceiver, error) {
	t.Helper()
	f := &fakeReceiver{tries: map[string]int{}, answer: answer}
	d, err := New(Options{Targets: []Target{{Tenant: "t", Name: t.Name(), URL: "https://deploy.example", Secrets: []Secret{secret(t, secretText)}}}, Outbox: box, Client: f})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	return f, d.Run(ctx)
}

func message(id, stream string) Message {
	return Message{ID: id, Stream: "t/" + stream, Time: time.Now(), ExpiresAt: time.Now().Add(time.Minute), Body: []byte("{}")}
}

func urgent(id, stream string) Message {
	m := message(id, stream)
	m.ExpiresAt = time.Now().Add(24 * time.Hour)
	return m
}

// TestStuckStreams has a receiver that takes nothing of twenty streams for a day: what
// it takes of another is told at once, and the day ends the trying.
func TestStuckStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := newMemory()
		for i := range 20 {
			box.waiting = append(box.waiting, urgent(fmt.Sprint("stuck", i), fmt.Sprint("r", i)))
		}
		begun := time.Now()
		go func() {
			time.Sleep(time.Minute)
			box.put(urgent("new", "other"))
		}()
		var took time.Duration
		_, err := deliver(t, box, 25*time.Hour, func(id string, _ int) (int, http.Header) {
			time.Sleep(time.Second) // of a try
			if id == "new" {
				took = time.Since(begun) - time.Minute
				return 200, nil
			}
			return 503, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if took == 0 || took > 10*time.Second {
			t.Errorf("told after %v", took)
		}
		got := box.outcomes()
		if len(got) != 21 || got[0] != "new=delivered" || !strings.HasPrefix(got[20], "stuck") || !strings.HasSuffix(got[20], "=expired") {
			t.Errorf("%v", got)
		}
	})
}

// TestRollbackTakenBack has a person take back a rollback that the receiver did not
// take so far.
func TestRollbackTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back, hold := urgent("rollback", "r"), message("hold", "r")
		back.Number, back.Decision, hold.Number, hold.ExpiresAt = 1, verdict.Rollback, 2, time.Now().Add(time.Hour)
		box := newMemory(back)
		up := time.Now().Add(2 * time.Minute)
		go func() {
			time.Sleep(time.Minute)
			box.put(hold)
		}()
		f, err := deliver(t, box, 5*time.Minute, func(string, int) (int, http.Header) {
			if time.Now().Before(up) {
				return 503, nil
			}
			return 200, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(box.outcomes()); got != "[rollback=overtaken hold=delivered]" || f.order[len(f.order)-1] != "hold" {
			t.Errorf("%s, told %v", got, f.order)
		}
	})
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := newMemory(urgent("a", "r"))
		f, err := deliver(t, box, 3*time.Minute, func(string, int) (int, http.Header) { return 503, nil })
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 15, 30, 30, 30} {
			if i+1 == len(f.times) {
				t.Fatalf("only %d tries", len(f.times))
			}
			want *= time.Second
			got := f.times[i+1].Sub(f.times[i])
			if got < want*79/100 || got > want*121/100 {
				t.Errorf("wait %d is %v, want %v within 20 %%", i+1, got, want)
			}
		}
		if len(box.outcomes()) != 0 {
			t.Errorf("recorded %v", box.outcomes())
		}
	})
}

func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			m      Message
			answer answers
			want   string
			tries  int
		}{
			{"taken at once", message("a", "r"), func(string, int) (int, http.Header) { return 204, nil }, "[a=delivered]", 1},
			{"taken at the third try", message("a", "r"), func(_ string, try int) (int, http.Header) { return []int{0, 500, 200}[try-1], nil }, "[a=delivered]", 3},
			{"gone", urgent("a", "r"), func(string, int) (int, http.Header) { return 410, nil }, "[a=refused]", 1},
			{"a fault of ours may be mended", urgent("a", "r"), func(_ string, try int) (int, http.Header) { return []int{404, 401, 200}[try-1], nil }, "[a=delivered]", 3},
			{"a redirect is a failure", urgent("a", "r"), func(_ string, try int) (int, http.Header) { return []int{302, 200}[try-1], nil }, "[a=delivered]", 2},
			{"expired", message("a", "r"), func(string, int) (int, http.Header) { return 503, nil }, "[a=expired]", 7},
		} {
			c.m.ExpiresAt = time.Now().Add(time.Minute) // the clock has moved since the table was made
			box := newMemory(c.m)
			f, err := deliver(t, box, 5*time.Minute, c.answer)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(box.outcomes()); got != c.want || f.tries["a"] < c.tries-1 || f.tries["a"] > c.tries {
				t.Errorf("%s: %s after %d tries, want %s after %d", c.name, got, f.tries["a"], c.want, c.tries)
			}
		}
	})
}

// TestRollbackOvertakes has a receiver that takes nothing for a while. A rollback
// that comes meanwhile is told at once, and the promote before it never again.
func TestRollbackOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		promote, back := message("promote", "r"), urgent("rollback", "r")
		promote.Number, promote.Decision = 1, verdict.Promote
		promote.ExpiresAt = time.Now().Add(time.Hour)
		back.Number, back.Decision = 2, verdict.Rollback
		box := newMemory(promote)
		var issued time.Time
		go func() {
			time.Sleep(20 * time.Second) // within the wait of 30 s
			issued = time.Now()
			box.put(back)
		}()
		f, err := deliver(t, box, 5*time.Minute, func(id string, _ int) (int, http.Header) {
			if id == "promote" {
				return 503, http.Header{"Retry-After": {"3600"}}
			}
			return 200, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(box.outcomes()); got != "[promote=overtaken rollback=delivered]" {
			t.Errorf("%s", got)
		}
		last := len(f.order) - 1
		if f.order[last] != "rollback" || f.times[last].Sub(issued) > time.Second {
			t.Errorf("told: %v at %v, issued at %v", f.order, f.times, issued)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := deliver(t, newMemory(urgent("a", "r")), 5*time.Minute, func(_ string, try int) (int, http.Header) {
			if try == 1 {
				return 429, http.Header{"Retry-After": {"100"}}
			}
			return 200, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.times[1].Sub(f.times[0]); got < 100*time.Second || got > 103*time.Second {
			t.Errorf("waited %v", got)
		}
	})
	now := time.Now().Truncate(time.Second)
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-7": 0, "99999999999": maxRetryAfter, "soon": 0,
		now.Add(time.Minute).UTC().Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).UTC().Format(http.TimeFormat): 0} {
		if got := RetryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// TestOrder has one stream fail while another goes on.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := newMemory(urgent("a1", "a"), urgent("a2", "a"), urgent("b1", "b"), urgent("a3", "a"))
		go func() {
			time.Sleep(5 * time.Second)
			box.put(urgent("b2", "b"))
		}()
		f, err := deliver(t, box, time.Minute, func(id string, try int) (int, http.Header) {
			if id == "a1" && try < 5 {
				return 500, nil
			}
			return 200, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(box.outcomes()); got != "[b1=delivered b2=delivered a1=delivered a2=delivered a3=delivered]" {
			t.Errorf("%s; tries %v", got, f.order)
		}
	})
}

// TestRestart ends a deliverer between a delivery and its record: the next one
// tells it again under the same id.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := newMemory(urgent("a", "r"), urgent("b", "r"))
		box.fail = errors.New("the disk is gone")
		ok := func(string, int) (int, http.Header) { return 200, nil }
		f, err := deliver(t, box, time.Minute, ok)
		if !errors.Is(err, box.fail) || fmt.Sprint(f.order) != "[a]" {
			t.Errorf("Run gave %v after %v", err, f.order)
		}
		box.fail = nil
		f, err = deliver(t, box, time.Minute, ok)
		if err != nil || fmt.Sprint(f.order) != "[a b]" {
			t.Errorf("the second gave %v after %v", err, f.order)
		}
	})
}

// TestOverTheNetwork is the whole of it, with a real receiver.
func TestOverTheNetwork(t *testing.T) {
	s := secret(t, secretText)
	type came struct {
		id, body string
		err      error
	}
	arrivals := make(chan came, 10)
	first := true
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = Verify(s, r.Header, body)
		}
		arrivals <- came{r.Header.Get("webhook-id"), string(body), err}
		if first {
			first = false
			panic(http.ErrAbortHandler) // the connection breaks after the body was read
		}
	}))
	defer receiver.Close()
	box := newMemory(urgent("m1", "r"))
	d, err := New(Options{Targets: []Target{{Tenant: "t", Name: "n", URL: receiver.URL, Secrets: []Secret{s}}}, Outbox: box, Client: receiver.Client()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	for range 2 {
		if a := <-arrivals; a.err != nil || a.id != "m1" || a.body != "{}" {
			t.Errorf("got %+v", a)
		}
	}
	for len(box.outcomes()) == 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil || fmt.Sprint(box.outcomes()) != "[m1=delivered]" {
		t.Errorf("%v, %v", box.outcomes(), err)
	}
}

func TestFormats(t *testing.T) {
	v := &verdict.Verdict{Version: 1, Tenant: "own", App: "shop web", Rollout: "r-2.4.1", Number: 3, Decision: verdict.Promote, IssuedAt: time.Unix(1_764_000_000, 0).UTC(), LogEHarm: verdict.Unknown}
	for name, want := range map[string]string{
		"":            `{"type":"verdict","timestamp":"2025-11-24T16:00:00Z","data":{"v":1`,
		"standard":    `{"type":"verdict","timestamp":"2025-11-24T16:00:00Z","data":{"v":1`,
		"cloudevents": `{"specversion":"1.0","id":"m","source":"/tenants/own/apps/shop%20web","type":"dev.serin.verdict.promote","subject":"r-2.4.1","time":"2025-11-24T16:00:00Z","datacontenttype":"application/json","data":{"v":1`,
		"cdevents":    `{"context":{"specversion":"0.5.1","id":"m","source":"/tenants/own/apps/shop%20web","type":"dev.cdeventsx.serin-canaryverdict.issued.0.1.0","timestamp":"2025-11-24T16:00:00Z"},"subject":{"id":"r-2.4.1"`,
	} {
		f, err := ParseFormat(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Payload(f, "m", v)
		if err != nil || !strings.HasPrefix(string(got), want) || !json.Valid(got) {
			t.Errorf("%q: %s, %v; want it to begin %s", name, got, err, want)
		}
	}
	if _, err := ParseFormat("xml"); err == nil {
		t.Error("a format that is none is accepted")
	}
}
