package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVar); dir != "" {
		crashChild(dir)
	}
	os.Exit(m.Run())
}

// testContext ends before the test binary's own timeout, so that a hang is
// reported by the call that hangs.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func open(t testing.TB, o Options) *Journal {
	t.Helper()
	j, err := Open(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func openLog(t testing.TB, j *Journal, name string, o LogOptions) *Log {
	t.Helper()
	l, err := j.Log(testContext(t), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendTo(t testing.TB, l *Log, data string) uint64 {
	t.Helper()
	pos, err := l.Append(testContext(t), []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func scanned(t testing.TB, l *Log, from, to uint64) []string {
	t.Helper()
	var got []string
	err := l.Scan(testContext(t), from, to, func(m Message) error {
		got = append(got, fmt.Sprintf("%d=%s", m.Pos, m.Data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantStrings(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// externalServer runs a server that listens on the loopback interface, as a
// stand-in for somebody else's. port -1 takes a free one.
func externalServer(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: dir, SyncAlways: true, MaxPayload: maxPayloadBytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("external server is not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// TestConformance holds the embedded and the external journal to one contract.
func TestConformance(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		conform(t, Options{Dir: t.TempDir()})
	})
	t.Run("external", func(t *testing.T) {
		conform(t, Options{URL: externalServer(t, t.TempDir(), -1).ClientURL()})
	})
}

func conform(t *testing.T, o Options) {
	j := open(t, o)
	t.Run("empty log", func(t *testing.T) { conformEmpty(t, openLog(t, j, "empty", LogOptions{})) })
	t.Run("append and read", func(t *testing.T) { conformRead(t, openLog(t, j, "read", LogOptions{})) })
	t.Run("compare and append", func(t *testing.T) { conformCompare(t, openLog(t, j, "compare", LogOptions{})) })
	t.Run("follow exactly once", func(t *testing.T) { conformFollow(t, openLog(t, j, "follow", LogOptions{})) })
	t.Run("full", func(t *testing.T) { conformFull(t, j) })
	t.Run("discarded", func(t *testing.T) { conformDiscarded(t, j) })
	t.Run("follower of a closed journal", func(t *testing.T) { conformClose(t, j, openLog(t, j, "close", LogOptions{})) })
}

func conformEmpty(t *testing.T, l *Log) {
	first, last, err := l.Bounds(testContext(t))
	if err != nil || first != 1 || last != 0 {
		t.Errorf("bounds: got %d, %d, %v, want 1, 0, nil", first, last, err)
	}
	wantStrings(t, "scan", scanned(t, l, 0, 100))
	if n, err := l.Bytes(testContext(t)); n != 0 || err != nil {
		t.Errorf("bytes: got %d, %v, want 0", n, err)
	}
}

func conformRead(t *testing.T, l *Log) {
	for i := range uint64(5) {
		if pos := appendTo(t, l, fmt.Sprint("m", i+1)); pos != i+1 {
			t.Fatalf("append %d: got position %d", i+1, pos)
		}
	}
	wantStrings(t, "scan all", scanned(t, l, 0, 100), "1=m1", "2=m2", "3=m3", "4=m4", "5=m5")
	wantStrings(t, "scan from 1", scanned(t, l, 1, 2), "1=m1", "2=m2")
	wantStrings(t, "scan the middle", scanned(t, l, 2, 4), "2=m2", "3=m3", "4=m4")
	wantStrings(t, "scan backwards", scanned(t, l, 4, 3))
	wantStrings(t, "scan beyond the end", scanned(t, l, 6, 9))
	if n, err := l.Bytes(testContext(t)); n < 10 || err != nil {
		t.Errorf("bytes: got %d, %v, want at least 10", n, err)
	}

	// An error of the handler stops and comes back as it was.
	stop := errors.New("stop")
	calls := 0
	if err := l.Follow(testContext(t), 3, func(m Message) error {
		calls++
		if time.Since(m.At).Abs() > time.Minute {
			t.Errorf("message is stored at %v", m.At)
		}
		return stop
	}); err != stop || calls != 1 {
		t.Errorf("follow with a failing handler: got %v after %d calls, want %v after 1", err, calls, stop)
	}

	// The largest message passes, compare-and-append's header included.
	big := bytes.Repeat([]byte("x"), MaxMessageBytes)
	if _, err := l.AppendAt(testContext(t), big, 5); err != nil {
		t.Errorf("append largest: %v", err)
	}
	if _, err := l.Append(testContext(t), append(big, 'x')); err == nil {
		t.Error("append above largest: got no error")
	}
	if pos := appendTo(t, l, ""); pos != 7 {
		t.Errorf("append nothing: got position %d, want 7", pos)
	}
	sizes := 0
	if err := l.Scan(testContext(t), 6, 7, func(m Message) error { sizes += len(m.Data); return nil }); err != nil {
		t.Error(err)
	}
	if sizes != MaxMessageBytes {
		t.Errorf("scan largest: got %d bytes, want %d", sizes, MaxMessageBytes)
	}
}

func conformCompare(t *testing.T, l *Log) {
	const positions, writers = 40, 2
	ctx := testContext(t)
	if _, err := l.AppendAt(ctx, []byte("early"), 1); !errors.Is(err, ErrMoved) {
		t.Errorf("append at 1 of an empty log: got %v, want %v", err, ErrMoved)
	}
	// Every writer tries every position; the start of each try is common.
	won := make([][writers]bool, positions)
	for p := range uint64(positions) {
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				pos, err := l.AppendAt(ctx, fmt.Appendf(nil, "w%d", w), p)
				switch {
				case err == nil && pos == p+1:
					won[p][w] = true
				case !errors.Is(err, ErrMoved):
					t.Errorf("writer %d at %d: got %d, %v", w, p, pos, err)
				}
			})
		}
		wg.Wait()
	}
	got := scanned(t, l, 1, positions)
	if len(got) != positions {
		t.Fatalf("got %d messages, want %d", len(got), positions)
	}
	for p, w := range won {
		if w[0] == w[1] {
			t.Errorf("position %d: won by %v, want exactly one", p+1, w)
		} else if want := fmt.Sprintf("%d=w%d", p+1, map[bool]int{true: 0, false: 1}[w[0]]); got[p] != want {
			t.Errorf("position %d: got %s, want %s", p+1, got[p], want)
		}
	}
}

func conformFollow(t *testing.T, l *Log) {
	const writers, each, followers = 4, 100, 3
	ctx := testContext(t)
	for i := range 10 { // history that is there before anybody follows
		appendTo(t, l, fmt.Sprint("old", i))
	}
	const total = 10 + writers*each
	var wg sync.WaitGroup
	acked := make([]string, total+1)
	var mu sync.Mutex
	seen := make([][]string, followers)
	for f := range followers {
		wg.Go(func() {
			from := uint64(f * 5) // 0, 5, 10
			done := errors.New("done")
			next := max(from, 1)
			err := l.Follow(ctx, from, func(m Message) error {
				if m.Pos != next {
					return fmt.Errorf("got position %d, want %d", m.Pos, next)
				}
				next++
				seen[f] = append(seen[f], string(m.Data))
				if m.Pos == total {
					return done
				}
				return nil
			})
			if err != done {
				t.Errorf("follower %d: %v", f, err)
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				data := fmt.Sprintf("w%d-%d", w, i)
				pos, err := l.Append(ctx, []byte(data))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[pos] = data
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for f, got := range seen {
		from := max(f*5, 1)
		for i, data := range got {
			if pos := from + i; pos > 10 && acked[pos] != data {
				t.Errorf("follower %d at %d: got %s, acknowledged was %s", f, pos, data, acked[pos])
			}
		}
	}

	// A new message reaches a waiting follower without being polled for.
	live, cancel := context.WithCancel(ctx)
	defer cancel()
	arrived := make(chan time.Time, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- l.Follow(live, total+1, func(Message) error { arrived <- time.Now(); return nil })
	}()
	var worst time.Duration
	for range 20 {
		appendTo(t, l, "live")
		acked := time.Now()
		worst = max(worst, (<-arrived).Sub(acked))
	}
	t.Logf("worst time from acknowledgment to handler: %v", worst)
	if worst > time.Second {
		t.Errorf("delivery took %v", worst)
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("follow with a canceled context: got %v", err)
	}
}

func conformFull(t *testing.T, j *Journal) {
	ctx := testContext(t)
	l := openLog(t, j, "full", LogOptions{MaxBytes: 10 << 10})
	data := make([]byte, 1000)
	var n uint64
	var err error
	for err == nil && n < 20 {
		if _, err = l.Append(ctx, data); err == nil {
			n++
		}
	}
	if !errors.Is(err, ErrFull) || n < 5 {
		t.Fatalf("append to a full log: got %v after %d, want %v", err, n, ErrFull)
	}
	if first, last, err := l.Bounds(ctx); first != 1 || last != n || err != nil {
		t.Errorf("bounds of a full log: got %d, %d, %v, want 1, %d: nothing dropped", first, last, err, n)
	}
	// A higher limit opens it again.
	l = openLog(t, j, "full", LogOptions{})
	if _, err := l.AppendAt(ctx, data, n); err != nil {
		t.Errorf("append after raising the limit: %v", err)
	}
}

func conformDiscarded(t *testing.T, j *Journal) {
	ctx := testContext(t)
	l := openLog(t, j, "aged", LogOptions{MaxAge: time.Second})
	for range 3 {
		appendTo(t, l, "old")
	}
	for {
		first, last, err := l.Bounds(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if first > last {
			if first != 4 || last != 3 {
				t.Errorf("bounds after all expired: got %d, %d, want 4, 3", first, last)
			}
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	appendTo(t, l, "new")
	nop := func(Message) error { return nil }
	for what, err := range map[string]error{
		"follow": l.Follow(ctx, 1, nop),
		"scan":   l.Scan(ctx, 3, 4, nop),
	} {
		if !errors.Is(err, ErrDiscarded) || !strings.Contains(err.Error(), "first available is 4") {
			t.Errorf("%s: got %v, want %v that names 4", what, err, ErrDiscarded)
		}
	}
	wantStrings(t, "scan what is kept", scanned(t, l, 0, 4), "4=new")
}

func conformClose(t *testing.T, j *Journal, l *Log) {
	appendTo(t, l, "one")
	reading := make(chan bool)
	ended := make(chan error)
	go func() {
		ended <- l.Follow(testContext(t), 1, func(Message) error { close(reading); return nil })
	}()
	<-reading
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	_, appendErr := l.Append(testContext(t), nil)
	_, _, boundsErr := l.Bounds(testContext(t))
	_, logErr := j.Log(testContext(t), "late", LogOptions{})
	for what, err := range map[string]error{
		"follow": <-ended, "append": appendErr, "bounds": boundsErr, "log": logErr,
		"scan": l.Scan(testContext(t), 0, 1, nil),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: got %v, want %v", what, err, ErrClosed)
		}
	}
}

func TestReopen(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	for i := range uint64(3) {
		j := open(t, o)
		l := openLog(t, j, "reopen", LogOptions{})
		if pos := appendTo(t, l, fmt.Sprint("run", i)); pos != i+1 {
			t.Errorf("run %d: got position %d", i, pos)
		}
		if i == 2 {
			wantStrings(t, "replay from 2", scanned(t, l, 2, 9), "2=run1", "3=run2")
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLock(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	j := open(t, o)
	_, err := Open(testContext(t), o)
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second open: got %v, want that the directory is in use", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, o) // the lock went with the close
}

func TestOpenRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"nowhere":              {},
		"replicas of one":      {Dir: t.TempDir(), Replicas: 3},
		"nobody listens":       {URL: "nats://127.0.0.1:1", StartTimeout: 300 * time.Millisecond},
		"directory is a file":  {Dir: "journal_test.go"},
		"credentials are gone": {URL: "nats://127.0.0.1:1", Credentials: "none", StartTimeout: 300 * time.Millisecond},
	} {
		if j, err := Open(testContext(t), o); err == nil {
			j.Close()
			t.Errorf("%s: got no error", name)
		}
	}
	j := open(t, Options{Dir: t.TempDir()})
	for _, name := range []string{"", "Upper", "a.b", "a b", "*", "1a"} {
		if _, err := j.Log(testContext(t), name, LogOptions{}); err == nil {
			t.Errorf("log %q: got no error", name)
		}
	}
}

// TestReconnect restarts the external server under a follower and a writer.
// An append during the outage fails. What was acknowledged on either side of it
// is seen once, in order. An append that failed may be stored or not, as its
// doc comment says, so only acknowledged ones are looked for.
func TestReconnect(t *testing.T) {
	dir := t.TempDir()
	s := externalServer(t, dir, -1)
	port := s.Addr().(*net.TCPAddr).Port
	j := open(t, Options{URL: s.ClientURL(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	l := openLog(t, j, "reconnect", LogOptions{})
	ctx := testContext(t)
	done := errors.New("done")
	ended := make(chan error, 1)
	var seen []string
	go func() {
		ended <- l.Follow(ctx, 1, func(m Message) error {
			if want := uint64(len(seen) + 1); m.Pos != want {
				return fmt.Errorf("got position %d, want %d", m.Pos, want)
			}
			if seen = append(seen, string(m.Data)); string(m.Data) == "last" {
				return done
			}
			return nil
		})
	}()
	acked := map[uint64]string{}
	// An append that was in flight when the connection broke learns nothing
	// until its deadline, so each has a short one.
	add := func(data string) error {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		pos, err := l.Append(ctx, []byte(data))
		if err == nil {
			acked[pos] = data
		}
		return err
	}
	mustAdd := func(data string) {
		t.Helper()
		for add(data) != nil {
			if ctx.Err() != nil {
				t.Fatalf("%s was never appended", data)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for i := range 30 {
		mustAdd(fmt.Sprint("before", i))
	}
	s.Shutdown()
	s.WaitForShutdown()
	if err := add("lost"); err == nil {
		t.Error("append without a server: got no error")
	}
	externalServer(t, dir, port)
	for i := range 30 {
		mustAdd(fmt.Sprint("after", i))
	}
	mustAdd("last")
	if err := <-ended; err != done {
		t.Fatal(err)
	}
	if len(acked) != 61 {
		t.Errorf("%d positions acknowledged, want 61", len(acked))
	}
	for pos, data := range acked {
		if pos > uint64(len(seen)) || seen[pos-1] != data {
			t.Errorf("position %d: %s was acknowledged and not seen", pos, data)
		}
	}
}
