package lane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// echo answers with what it was sent.
type echo struct{ began, served func(*Exchange) }

func (e echo) Match(path []byte) bool {
	return string(path) == "/in" || string(path) == "/refuse" || string(path) == "/hand"
}

func (e echo) Begin(x *Exchange) Verdict {
	if e.began != nil {
		e.began(x)
	}
	switch string(x.Path) {
	case "/refuse":
		x.Status, x.Type = 401, "text/plain"
		x.Reply = append(x.Reply, "lane: no"...)
		return Done
	case "/hand":
		return Hand
	}
	return Go
}

func (e echo) Serve(x *Exchange) {
	if e.served != nil {
		e.served(x)
	}
	x.Status, x.Type = 202, "text/plain"
	x.Set("X-Query", string(x.Query))
	x.Set("X-Evil", "a\r\nInjected: 1")
	x.Reply = append(append(x.Reply, "lane: "...), x.Body...)
}

// other is net/http's part: it answers in the same form.
func other(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(202)
	fmt.Fprintf(w, "http: %s", body)
}

type server struct {
	*Server
	addr string
	rest *http.Server
}

func start(t testing.TB, change func(*Options)) *server {
	t.Helper()
	o := Options{Handler: echo{}, MaxBody: 1 << 20, HeaderTimeout: time.Minute, BodyTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		TooLarge: func(x *Exchange) { x.Status = 413 }}
	if change != nil {
		change(&o)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{New(o), l.Addr().String(), &http.Server{Handler: http.HandlerFunc(other), ReadHeaderTimeout: time.Minute}}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { _ = s.rest.Serve(s.Rest()) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		_ = s.rest.Close()
		wg.Wait()
	})
	return s
}

func (s *server) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// read reads one answer. Its header has Connection where the server closes.
func read(t testing.TB, r *bufio.Reader) (int, string, http.Header) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Close {
		res.Header.Set("Connection", "close")
	}
	return res.StatusCode, string(body), res.Header
}

func post(path, body string, header ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n%s", path, strings.Join(header, ""), len(body), body)
}

// TestWhoServes sends requests in one piece and byte by byte, and says which of
// the two servers must answer, and what.
func TestWhoServes(t *testing.T) {
	big := strings.Repeat("b", 300<<10)
	for _, c := range []struct {
		name, request string
		status        int
		body          string
	}{
		{"plain", post("/in?a=b", "hello"), 202, "lane: hello"},
		{"empty body", post("/in", ""), 202, "lane: "},
		{"body over the buffer", post("/in", big), 202, "lane: " + big},
		{"body over the buffer, for net/http", post("/other", big), 202, "http: " + big},
		{"refused", post("/refuse", "hello"), 401, "lane: no"},
		{"handed by the handler", post("/hand", "hello"), 202, "http: hello"},
		{"another path", post("/in/", "hello"), 202, "http: hello"},
		{"percent", post("/%69n", "hello"), 202, "http: hello"},
		{"get", "GET /in HTTP/1.1\r\nHost: h\r\n\r\n", 202, "http: "},
		{"chunked", "POST /in HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 202, "http: hello"},
		{"chunked and length", "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 202, "http: hello"},
		{"two lengths", "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, ""},
		{"length with a sign", "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", 400, ""},
		{"no host", "POST /in HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400, ""},
		{"two hosts", "POST /in HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello", 400, ""},
		{"folded line", "POST /in HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", 202, "http: hello"},
		{"blank before the colon", "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\nhello", 400, ""},
		{"no colon", "POST /in HTTP/1.1\r\nHost: h\r\nwhat\r\nContent-Length: 5\r\n\r\nhello", 400, ""},
		{"HTTP/1.0", "POST /in HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 202, "http: hello"},
		{"bare line feeds", "POST /in HTTP/1.1\nHost: h\nContent-Length: 5\n\nhello", 202, "http: hello"},
		{"absolute form", "POST http://h/in HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 202, "http: hello"},
		{"upper case and blanks", "POST /in HTTP/1.1\r\nHOST:h\r\nCONTENT-LENGTH:\t5 \r\n\r\nhello", 202, "lane: hello"},
		{"too many header lines", post("/in", "hello", strings.Repeat("X: y\r\n", maxFields)), 202, "http: hello"},
		{"head over the buffer", post("/in", "hello", "X: "+strings.Repeat("y", headBytes)+"\r\n"), 202, "http: hello"},
		{"lower-case method", strings.Replace(post("/in", "hello"), "POST", "post", 1), 202, "http: hello"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, nil)
			conn := s.dial(t)
			r := bufio.NewReader(conn)
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			status, body, header := read(t, r)
			if status != c.status || c.body != "" && body != c.body {
				t.Errorf("got %d %.40q, want %d %.40q", status, body, c.status, c.body)
			}
			if header.Get("Injected") != "" {
				t.Error("a header was injected")
			}
			if len(c.request) > 2000 || c.status == 400 { // which may come, with a reset, before all is sent
				return
			}
			slow := s.dial(t)
			for i := range len(c.request) {
				if _, err := io.WriteString(slow, c.request[i:i+1]); err != nil {
					break // answered before it was whole
				}
				if i%7 == 0 {
					time.Sleep(50 * time.Microsecond)
				}
			}
			// A refusal may come before the request is whole, and then nothing more is read.
			if again, text, _ := read(t, bufio.NewReader(slow)); again != c.status || text != body {
				t.Errorf("byte by byte: got %d %.40q, want %d %.40q", again, text, status, body)
			}
		})
	}
}

// TestPipelined sends many requests of all kinds at once on one connection.
func TestPipelined(t *testing.T) {
	s := start(t, nil)
	conn := s.dial(t)
	var all strings.Builder
	var want []string
	for i := range 300 {
		body := strings.Repeat(fmt.Sprint(i), 1+i*37%900)
		all.WriteString(post("/in", body))
		want = append(want, "lane: "+body)
	}
	all.WriteString(post("/other", "from here on net/http's"))
	all.WriteString(post("/in", "this too"))
	want = append(want, "http: from here on net/http's", "http: this too")
	go func() { _, _ = io.WriteString(conn, all.String()) }()
	r := bufio.NewReader(conn)
	for i, w := range want {
		if status, body, _ := read(t, r); status != 202 || body != w {
			t.Fatalf("%d: %d %.60q, want %.60q", i, status, body, w)
		}
	}
	if n := s.Open(); n != 1 {
		t.Errorf("%d connections are open", n)
	}
}

func TestClosing(t *testing.T) {
	s := start(t, func(o *Options) { o.MaxBody = 1000 })
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"asked for", post("/in", "x", "Connection: close\r\n"), 202},
		{"too large", "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413},
		{"refused before the body is there", "POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n", 401},
	} {
		conn := s.dial(t)
		if _, err := io.WriteString(conn, c.request); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		status, _, header := read(t, r)
		if status != c.status || header.Get("Connection") != "close" {
			t.Errorf("%s: %d %v", c.name, status, header)
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: afterwards %v", c.name, err)
		}
	}
}

// TestTimeouts has clients that stop in the middle.
func TestTimeouts(t *testing.T) {
	for name, quiet := range map[string]time.Duration{"parked": 20 * time.Millisecond, "not parked": 0} {
		t.Run(name, func(t *testing.T) { timeouts(t, quiet) })
	}
}

func timeouts(t *testing.T, quiet time.Duration) {
	short := func(o *Options) {
		o.HeaderTimeout, o.BodyTimeout, o.IdleTimeout, o.Quiet = 300*time.Millisecond, 300*time.Millisecond, 600*time.Millisecond, quiet
	}
	for name, sent := range map[string]string{
		"nothing":          "",
		"part of a head":   "POST /in HTTP/1.1\r\nHost: h\r\nContent-Le",
		"no body":          "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
		"half a body":      "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe",
		"half a large one": "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n" + strings.Repeat("x", 100_000),
	} {
		s := start(t, short)
		conn := s.dial(t)
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(began) > 10*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
		for i := 0; s.Open() != 0; i++ {
			if i == 100 {
				t.Errorf("%s: still open", name)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// TestBusyConnectionOutlivesItsDeadlines sends for longer than any time limit.
func TestBusyConnectionOutlivesItsDeadlines(t *testing.T) {
	s := start(t, func(o *Options) {
		o.HeaderTimeout, o.BodyTimeout, o.IdleTimeout, o.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond, 400*time.Millisecond, 400*time.Millisecond
	})
	conn := s.dial(t)
	r := bufio.NewReader(conn)
	for range 30 {
		if _, err := io.WriteString(conn, post("/in", strings.Repeat("x", 20_000))); err != nil {
			t.Fatal(err)
		}
		if status, _, _ := read(t, r); status != 202 {
			t.Fatal(status)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestLimit(t *testing.T) {
	s := start(t, func(o *Options) { o.Limit = 2 })
	a, b := s.dial(t), s.dial(t)
	for _, c := range []net.Conn{a, b} {
		if _, err := io.WriteString(c, post("/other", "x")); err != nil { // those of net/http count too
			t.Fatal(err)
		}
		read(t, bufio.NewReader(c))
	}
	over := s.dial(t)
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection is served")
	}
	a.Close()
	for i := 0; ; i++ {
		c := s.dial(t)
		_, _ = io.WriteString(c, post("/in", "x"))
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			res.Body.Close()
			break
		}
		if i == 100 {
			t.Fatal("no place becomes free")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s.Refused() == 0 {
		t.Error("no refusal was counted")
	}
}

// TestShutdown answers what was read, and nothing else.
func TestShutdown(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := start(t, func(o *Options) {
		o.Handler = echo{served: func(*Exchange) { entered <- struct{}{}; <-leave }}
	})
	idle, busy := s.dial(t), s.dial(t)
	if _, err := io.WriteString(busy, post("/in", "x")); err != nil {
		t.Fatal(err)
	}
	<-entered
	done := make(chan error)
	go func() { done <- s.Shutdown(t.Context()) }()
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle one: %v", err)
	}
	close(leave)
	if status, body, _ := read(t, bufio.NewReader(busy)); status != 202 || body != "lane: x" {
		t.Errorf("the busy one: %d %s", status, body)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// spender gives the request back before it waits.
type spender struct {
	echo
	wait func()
}

func (h spender) Serve(x *Exchange) {
	h.echo.Serve(x)
	x.Spent()
	h.wait()
}

// TestSpent has requests wait that need nothing of what they were: one buffer serves all
// of them, and what is behind one is served next.
func TestSpent(t *testing.T) {
	const n = 50
	var waiting sync.WaitGroup
	waiting.Add(n)
	var mu sync.Mutex
	held := map[*[headBytes]byte]bool{}
	s := start(t, func(o *Options) {
		o.Handler = spender{echo{began: func(x *Exchange) { mu.Lock(); held[x.buf] = true; mu.Unlock() }}, func() { waiting.Done(); waiting.Wait() }}
	})
	var conns []net.Conn
	for range n {
		c := s.dial(t)
		if _, err := io.WriteString(c, post("/in", "hello")); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		if _, got, _ := read(t, bufio.NewReader(c)); got != "lane: hello" {
			t.Errorf("got %q", got)
		}
	}
	if len(held) > n*3/4 { // the race detector drops a part of what is put into a pool
		t.Errorf("%d requests that wait have %d buffers", n, len(held))
	}

	s = start(t, func(o *Options) { o.Handler = spender{wait: func() {}} })
	c := s.dial(t)
	large := strings.Repeat("x", 3*headBytes)
	if _, err := io.WriteString(c, post("/in", "one")+post("/in", "two")+post("/in", large)+post("/in", "four")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for _, want := range []string{"one", "two", large, "four"} {
		if _, got, _ := read(t, r); got != "lane: "+want {
			t.Errorf("got %.40q, want %.40q", got, want)
		}
	}
}

// TestIdleConnectionsHoldNoBuffer keeps many connections open.
func TestIdleConnectionsHoldNoBuffer(t *testing.T) {
	var mu sync.Mutex
	held := map[*Exchange]bool{}
	s := start(t, func(o *Options) {
		o.Handler = echo{began: func(x *Exchange) { mu.Lock(); held[x] = true; mu.Unlock() }}
	})
	for range 200 {
		c := s.dial(t)
		if _, err := io.WriteString(c, post("/in", "x")); err != nil {
			t.Fatal(err)
		}
		read(t, bufio.NewReader(c))
	}
	if len(held) > 150 { // the race detector drops a part of what is put into a pool
		t.Errorf("200 idle connections had %d buffers", len(held))
	}
}

// TestParked: a connection that is quiet has no goroutine, serves its next request as any
// other, and is closed when its idle time is up or the server ends.
func TestParked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("connections are parked on Linux alone")
	}
	const n, idle = 50, 2 * time.Second
	s := start(t, func(o *Options) { o.Quiet, o.IdleTimeout = 5*time.Millisecond, idle })
	parked := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); s.lot.Len() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d are parked, want %d", s.lot.Len(), want)
			}
		}
	}
	var conns []net.Conn
	for range n {
		conns = append(conns, s.dial(t))
	}
	var last time.Time
	for range 3 {
		parked(n)
		stacks := make([]byte, 4<<20)
		if text := string(stacks[:runtime.Stack(stacks, true)]); strings.Contains(text, "lane.(*Server).loop") {
			t.Error("a parked connection has a goroutine")
		}
		for i, c := range conns {
			last = time.Now()
			r := bufio.NewReader(c)
			request := post("/in", "x")
			for _, part := range []string{request[:10], request[10:] + request, request} { // two of them at once
				if _, err := io.WriteString(c, part); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					time.Sleep(10 * s.o.Quiet) // the rest of a head has its own time
				}
			}
			for range 3 {
				if status, body, _ := read(t, r); status != 202 || body != "lane: x" {
					t.Fatalf("%d %s", status, body)
				}
			}
		}
	}
	parked(n)
	if _, err := io.WriteString(conns[0], post("/other", "x")); err != nil { // which is net/http's from then on
		t.Fatal(err)
	}
	if _, body, _ := read(t, bufio.NewReader(conns[0])); strings.HasPrefix(body, "lane") {
		t.Errorf("served: %s", body)
	}
	if _, err := conns[n-1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(last) < idle*9/10 || time.Since(last) > 2*idle {
		t.Errorf("ended after %v of %v: %v", time.Since(last), idle, err)
	}
	late := s.dial(t)
	parked(1)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the last one: %v", err)
	}
}

// FuzzHead holds what the lane takes against net/http: whatever is served here
// must be the same request there, or a proxy and the lane could differ on where
// one request ends and the next begins.
func FuzzHead(f *testing.F) {
	for _, s := range []string{post("/in?x=y", "hello"), post("/in", "a", "Connection: close\r\n"), post("/in", "a", "X-Api-Key: k\r\nOrigin: https://a\r\n"),
		"POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", "POST /in HTTP/1.1\r\nHost:\x00\r\nContent-Length: 0\r\n\r\n",
		"POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 00000003\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > headBytes {
			return
		}
		x := &Exchange{buf: new([headBytes]byte)}
		x.n = copy(x.buf[:], data)
		done, err := x.parse(func([]byte) bool { return true })
		if err != nil || !done {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatalf("net/http refuses: %v", err)
		}
		if r.Method != "POST" || r.ContentLength != int64(x.length) || len(r.TransferEncoding) > 0 || r.RequestURI != string(x.Path)+query(x) {
			t.Fatalf("net/http reads %s %s, %d bytes, %v; the lane %s, %d bytes", r.Method, r.RequestURI, r.ContentLength, r.TransferEncoding, x.Path, x.length)
		}
		if r.Close != x.close {
			t.Fatalf("closing: %v there, %v here", r.Close, x.close)
		}
		lines := 0
		x.Fields(func(name, value []byte) {
			lines++
			if strings.EqualFold(string(name), "Host") {
				return
			}
			found := false
			for _, v := range r.Header.Values(string(name)) {
				found = found || v == string(value)
			}
			if !found {
				t.Fatalf("%s: %q is not among %q", name, value, r.Header.Values(string(name)))
			}
		})
		there := 1 // Host
		for _, vs := range r.Header {
			there += len(vs)
		}
		if lines != there {
			t.Fatalf("%d lines here, %d there", lines, there)
		}
	})
}

func query(x *Exchange) string {
	if i := bytes.IndexByte(x.buf[:x.end], '?'); i >= 0 && i == 5+len(x.Path) {
		return "?" + string(x.Query)
	}
	return ""
}
