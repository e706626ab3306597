package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// dial opens a stream to an edge.
func dial(t testing.TB, url, key string, header ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	d := websocket.Dialer{Subprotocols: []string{Subprotocol}, HandshakeTimeout: 10 * time.Second}
	return d.Dial("ws"+strings.TrimPrefix(url, "http")+"/v1/stream?key="+key, h)
}

func open(t testing.TB, url, key string, header ...string) *websocket.Conn {
	t.Helper()
	c, _, err := dial(t, url, key, header...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answers reads the answer to one message.
func answers(t testing.TB, c *websocket.Conn) acks {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var a acks
	if err := c.ReadJSON(&a); err != nil {
		t.Fatal(err)
	}
	return a
}

func send(t testing.TB, c *websocket.Conn, text string) {
	t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestStreamAcknowledges(t *testing.T) {
	e := newEdge(t)
	c := open(t, e.url, "pk_open")
	if c.Subprotocol() != Subprotocol {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	good := viewText(time.Now())
	// Several beacons in one message, one of them broken, one with a bad event.
	send(t, c, strings.Join([]string{beaconText(1, good), `{"v":1`, beaconText(2, good+`,{"k":"poison","n":"x","t":1}`)}, "\n"))
	a := answers(t, c)
	if a.Message != 0 || len(a.Acks) != 3 {
		t.Fatalf("%+v", a)
	}
	if x := a.Acks[0]; x.Error != nil || x.Session != "session-0" || x.Seq != 1 || x.Accepted != 1 {
		t.Errorf("%+v", x)
	}
	if x := a.Acks[1]; x.Error == nil || x.Error.Reason != event.ReasonJSON || x.Error.Retry || x.Index != 1 {
		t.Errorf("%+v", x)
	}
	if x := a.Acks[2]; x.Error != nil || x.Accepted != 1 || len(x.Rejected) != 1 || x.Rejected[0].Index != 1 || x.Rejected[0].Reason != event.ReasonKind {
		t.Errorf("%+v", x)
	}
	// The stream goes on behind what was broken, and behind what is no text.
	if err := c.WriteMessage(websocket.BinaryMessage, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	if x := answers(t, c); x.Message != 1 || x.Acks[0].Error == nil || x.Acks[0].Error.Reason != event.ReasonEncoding {
		t.Errorf("%+v", x)
	}
	send(t, c, " \n")
	if x := answers(t, c); x.Message != 2 || x.Acks[0].Error == nil {
		t.Errorf("%+v", x)
	}
	stored := e.stored(t)
	if len(stored) != 2 || stored["shop/session-0/1"] != 1 || stored["shop/session-0/2"] != 1 {
		t.Errorf("stored %v", stored)
	}
}

func TestStreamRefusals(t *testing.T) {
	e := newEdge(t)
	for _, c := range []struct {
		name, key, origin string
		status            int
	}{
		{"an unknown key", "pk_nobody", "", http.StatusUnauthorized},
		{"a foreign origin", "pk_site", "https://evil.example", http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, res, err := dial(t, e.url, c.key, "Origin", c.origin)
			if !errors.Is(err, websocket.ErrBadHandshake) || res.StatusCode != c.status {
				t.Errorf("%v, %v", err, res)
			}
		})
	}
	t.Run("no handshake", func(t *testing.T) {
		headers := [][2]string{{"Connection", "keep-alive, Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "short"}}
		for i, missing := range headers {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/v1/stream?key=pk_open", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range headers[:i] {
				req.Header.Set(h[0], h[1])
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode/100 != 4 || !strings.Contains(string(text), missing[0]) {
				t.Errorf("without %s: status %d, %s, %v", missing[0], res.StatusCode, text, err)
			}
		}
	})
	t.Run("a message that is too large", func(t *testing.T) {
		c := open(t, e.url, "pk_open")
		send(t, c, strings.Repeat(" ", event.MaxBody+1))
		if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
			t.Errorf("%v", err)
		}
	})
	t.Run("the origin of the key", func(t *testing.T) {
		open(t, e.url, "pk_site", "Origin", "https://www.shop.example")
	})
}

func TestStreamTenancyByBaggage(t *testing.T) {
	e := newEdge(t)
	c := open(t, e.url, "pk_open", "Baggage", "request-tenancy=shadow")
	send(t, c, beaconText(0, viewText(time.Now())))
	answers(t, c)
	if got := e.tenancies(t)["session-0"]; got != event.Shadow {
		t.Errorf("stored as %s", got)
	}
}

// TestStreamResumes breaks the connection at random points under load. The
// client sends again whatever was not acknowledged: everything is stored, and
// what is stored twice has the same number, so that it counts once.
func TestStreamResumes(t *testing.T) {
	e := newEdge(t)
	const total, window = 600, 32
	r := rand.New(rand.NewPCG(5, 6))
	acked := map[uint32]bool{}
	breaks := 0
	for len(acked) < total {
		c, _, err := dial(t, e.url, "pk_open")
		if err != nil {
			t.Fatal(err)
		}
		until := len(acked) + 1 + r.IntN(60)
		inFlight := 0
		next := uint32(0)
		for {
			for inFlight < window && next < total {
				if !acked[next] {
					if c.WriteMessage(websocket.TextMessage, []byte(beaconText(int(next), viewText(time.Now())))) != nil {
						break
					}
					inFlight++
				}
				next++
			}
			if inFlight == 0 {
				break
			}
			a := answers(t, c)
			inFlight--
			if a.Acks[0].Error != nil {
				t.Fatalf("%+v", a.Acks[0].Error)
			}
			acked[a.Acks[0].Seq] = true
			if len(acked) >= until {
				break
			}
		}
		breaks++
		c.NetConn().Close() // without a word, in the middle of what is in flight
	}
	if breaks < 10 {
		t.Errorf("only %d breaks", breaks)
	}
	seen := e.numbers(t)
	for seq := range uint32(total) {
		if seen[seq] == 0 {
			t.Errorf("beacon %d was acknowledged and is not stored", seq)
		}
	}
	if len(seen) != total {
		t.Errorf("%d numbers are stored, want %d", len(seen), total)
	}
}

// limited is an edge with bounds that a test can wait for.
func limited(t *testing.T, l streamLimits, log Appender) (*Edge, string, context.CancelFunc, *sync.WaitGroup) {
	t.Helper()
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_open"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: log, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}})
	e.streams.limits = l
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	s := httptest.NewServer(e)
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		s.Close()
	})
	return e, s.URL, cancel, &wg
}

// slowLog takes its time.
type slowLog struct{ wait time.Duration }

func (s slowLog) Append(context.Context, []byte) (uint64, error) {
	time.Sleep(s.wait)
	return 1, nil
}

func TestStreamEndsWithWhatIsInFlightAnswered(t *testing.T) {
	e, url, cancel, wg := limited(t, streamDefaults, slowLog{300 * time.Millisecond})
	c := open(t, url, "pk_open")
	send(t, c, beaconText(0, viewText(time.Now())))
	for e.batcherIdle() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if a := answers(t, c); a.Acks[0].Error != nil || a.Acks[0].Accepted != 1 {
		t.Errorf("%+v", a)
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("%v", err)
	}
	wg.Wait()
	if n := e.Streams(); n != 0 {
		t.Errorf("%d streams are open", n)
	}
	if _, _, err := dial(t, url, "pk_open"); err == nil {
		// Upgraded and ended at once, since the edge is going away.
		t.Log("a late stream was upgraded")
	}
}

// batcherIdle reports whether nothing has been put into a group yet.
func (e *Edge) batcherIdle() bool {
	e.batcher.mu.Lock()
	defer e.batcher.mu.Unlock()
	return e.batcher.open.group.Beacons() == 0 && len(e.batcher.tokens) == 0
}

func TestStreamIdleAndSilent(t *testing.T) {
	for name, quiet := range map[string]time.Duration{"parked": 5 * time.Millisecond, "not parked": time.Hour} {
		t.Run(name, func(t *testing.T) { idleAndSilent(t, quiet) })
	}
}

func idleAndSilent(t *testing.T, quiet time.Duration) {
	l := streamDefaults
	l.quiet, l.look, l.idle = quiet, 10*time.Millisecond, 150*time.Millisecond
	_, url, _, _ := limited(t, l, slowLog{})
	c := open(t, url, "pk_open")
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("an idle stream ended with %v", err)
	}
	l.idle, l.ping, l.pong = time.Hour, 20*time.Millisecond, 200*time.Millisecond
	e, url, _, _ := limited(t, l, slowLog{})
	// One that answers pings stays, one that does not is taken for gone.
	alive, silent := open(t, url, "pk_open"), open(t, url, "pk_open")
	pings := make(chan struct{}, 100)
	alive.SetPingHandler(func(text string) error {
		select {
		case pings <- struct{}{}:
		default:
		}
		return alive.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(time.Second))
	})
	go func() { _, _, _ = alive.ReadMessage() }() // reads control frames until the test closes it
	silent.SetPingHandler(func(string) error { return nil })
	if _, _, err := silent.ReadMessage(); err == nil {
		t.Error("a silent stream said something")
	}
	for range 15 {
		<-pings
	}
	if n := e.Streams(); n != 1 {
		t.Errorf("%d streams are open, want the one that answers", n)
	}
}

// parked waits until so many streams of an edge are parked.
func (e *Edge) parked(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		e.streams.mu.Lock()
		l := e.streams.lot
		e.streams.mu.Unlock()
		if l != nil && l.Len() == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %d streams are parked", n)
		}
	}
}

// TestStreamParked: a stream that is quiet has no goroutine, and goes on where it was.
func TestStreamParked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("streams are parked on Linux alone")
	}
	l := streamDefaults
	l.quiet, l.look, l.ping = 5*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond
	e, url, cancel, _ := limited(t, l, slowLog{})
	const n = 50
	var conns []*websocket.Conn
	for range n {
		conns = append(conns, open(t, url, "pk_open"))
	}
	e.parked(t, n)
	stacks := make([]byte, 4<<20)
	if text := string(stacks[:runtime.Stack(stacks, true)]); strings.Contains(text, ".(*Edge).serve(") {
		t.Error("a parked stream has a goroutine")
	}
	for seq := range 3 {
		for i, c := range conns {
			send(t, c, beaconText(seq, viewText(time.Now())))
			if a := answers(t, c); a.Message != seq || a.Acks[0].Error != nil || a.Acks[0].Accepted != 1 {
				t.Fatalf("stream %d: %+v", i, a)
			}
		}
		// A message in two parts, the second of which is late, and a ping between them.
		w, err := conns[0].NextWriter(websocket.TextMessage)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, "{}\n"+strings.Repeat(" ", 5000)) // an error shows below
		_ = conns[0].WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
		time.Sleep(4 * l.quiet)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if a := answers(t, conns[0]); len(a.Acks) != 1 || a.Acks[0].Error == nil {
			t.Fatalf("%+v", a)
		}
		conns = conns[1:]
	}
	go func() { _, _, _ = conns[0].ReadMessage() }() // answers pings until the end
	time.Sleep(5 * l.ping)
	e.parked(t, n)
	// Its pings wait to be read: to answer them to a server that has gone would be an error.
	conns[1].SetPingHandler(func(string) error { return nil })
	cancel()
	if _, _, err := conns[1].ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("%v", err)
	}
}

// TestStreamTellsWhatToHold has a client past the quota of its kind of traffic, while
// another one, of which there is no more than is allowed, is told nothing.
func TestStreamTellsWhatToHold(t *testing.T) {
	for greedy, quota := range map[string]tenant.Quota{"production": {Events: 1}, "test": {Other: 1}} {
		t.Run(greedy, func(t *testing.T) { tellsWhatToHold(t, quota, greedy) })
	}
}

func tellsWhatToHold(t *testing.T, quota tenant.Quota, greedy string) {
	l := streamDefaults
	l.look = 10 * time.Millisecond
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Quota: quota, Keys: []tenant.Key{{Key: "pk_open"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: slowLog{}, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}})
	e.streams.limits = l
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	s := httptest.NewServer(e)
	defer func() {
		cancel()
		wg.Wait()
		s.Close()
	}()
	var events []string
	for range 100 {
		events = append(events, viewText(time.Now()))
	}
	other := map[string]string{"production": "test", "test": "production"}[greedy]
	streams := map[string]*websocket.Conn{}
	for _, tenancy := range []string{greedy, other} {
		streams[tenancy] = open(t, s.URL, "pk_open", "Baggage", "serin.tenancy="+tenancy)
	}
	type frame struct {
		Classes *string
		Acks    []ack
	}
	told := false
	deadline := time.Now().Add(10 * time.Second)
	for seq := 0; !told && time.Now().Before(deadline); seq++ {
		send(t, streams[greedy], beaconText(seq, strings.Join(events, ",")))
		var f frame
		if err := streams[greedy].ReadJSON(&f); err != nil {
			t.Fatal(err)
		}
		if told = f.Classes != nil; told && !strings.Contains(*f.Classes, "resource") {
			t.Errorf("told %q", *f.Classes)
		}
	}
	if !told {
		t.Error("told nothing")
	}
	// Another stream is looked at as often: it has an answer, and nothing else.
	send(t, streams[other], beaconText(0, viewText(time.Now())))
	time.Sleep(5 * l.look)
	send(t, streams[other], beaconText(1, viewText(time.Now())))
	for range 2 {
		var f frame
		if err := streams[other].ReadJSON(&f); err != nil {
			t.Fatal(err)
		}
		if f.Classes != nil {
			t.Errorf("%s traffic is told %q", other, *f.Classes)
		}
	}
}

func FuzzStreamMessage(f *testing.F) {
	now := time.UnixMilli(1764000000000)
	f.Add([]byte(beaconText(1, viewText(now))))
	f.Add([]byte(beaconText(1, viewText(now)) + "\n\n{}\n" + beaconText(2, "")))
	f.Add([]byte("\n"))
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_open"}}}})
	if err != nil {
		f.Fatal(err)
	}
	g, err := d.Key("pk_open")
	if err != nil {
		f.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: slowLog{}, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}})
	f.Fuzz(func(t *testing.T, body []byte) {
		list, groups := e.message(g, &admit.Client{}, event.Production, body)
		e.batcher.take()
		if len(list) == 0 || len(list) != len(groups) {
			t.Fatalf("%d answers, %d groups", len(list), len(groups))
		}
		for i, a := range list {
			if (a.Error == nil) != (groups[i] != nil) || a.Index != i {
				t.Fatalf("answer %d: %+v", i, a)
			}
		}
		if _, err := json.Marshal(list); err != nil {
			t.Fatal(err)
		}
	})
}

// The short way to write an answer writes what encoding/json does.
func TestAcksText(t *testing.T) {
	for _, a := range []acks{{}, {Message: 7, Acks: []ack{{Session: "01J9-a_Z", Seq: 4294967295, Index: 3, Accepted: 200}, {Session: "session-0", Shed: 2},
		{Session: "session-0", Accepted: 1, Rejected: []rejection{{1, "kind", "events[1].k", "\"<x>", "one of"}}},
		{Error: &nack{"json", "body", "\u2028", "JSON", true}}}}} {
		var want, got any
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(json.Unmarshal(text, &want), json.Unmarshal(a.text(), &got)); err != nil {
			t.Fatalf("%v: %s", err, a.text())
		}
		if len(a.Acks) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s, want %s", a.text(), text)
		}
	}
}

// BenchmarkIdleStreams reports the memory of a stream that says nothing, the
// client's half not counted: clients are bare connections here.
func BenchmarkIdleStreams(b *testing.B) {
	const n = 5000
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_open"}}}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e := New(Options{Tenants: d, Journal: slowLog{}, Logger: slog.New(slog.DiscardHandler), Fail: func(error) {}})
		e.streams.limits = streamDefaults
		e.streams.limits.quiet = 10 * time.Millisecond
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { e.Run(ctx) })
		s := httptest.NewServer(e)
		memory := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapInuse + m.StackInuse
		}
		before := memory()
		var conns []net.Conn
		for range n {
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			fmt.Fprintf(c, "GET /v1/stream?key=pk_open HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			conns = append(conns, c)
		}
		e.parked(b, n)
		b.ReportMetric(float64(memory()-before)/n, "B/stream")
		for _, c := range conns {
			c.Close()
		}
		cancel()
		wg.Wait()
		s.Close()
	}
}
