package wire

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		text   string
		status int
		body   string
		close  bool
		fails  bool
	}{
		{text: "HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\n\r\n{\"accepted\":7}", status: 202, body: `{"accepted":7}`},
		{text: "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"accepted\":7,\"s\r\n7;x=y\r\nhed\":3}\r\n0\r\n\r\n", status: 202, body: `{"accepted":7,"shed":3}`},
		{text: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", status: 200, body: "{}", close: true},
		{text: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200, close: true},
		{text: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", status: 503},
		{text: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{text: "SMTP hello there\r\n\r\n", fails: true},
		{text: "HTTP/1.1 xyz Accepted\r\n\r\n", fails: true},
		{text: "HTTP/1.1 202 Accepted\r\nno header\r\n\r\n", fails: true},
		{text: "HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nshort", fails: true},
		{text: "HTTP/1.1 202 Accepted\r\nContent-Length: -1\r\n\r\n", fails: true},
		{text: "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", fails: true},
		{text: "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", fails: true},
		{text: "", fails: true},
	} {
		var a Answer
		err := a.Read(bufio.NewReader(strings.NewReader(c.text)))
		if (err != nil) != c.fails {
			t.Errorf("%q: error %v", c.text, err)
			continue
		}
		if !c.fails && (a.Status != c.status || string(a.Body) != c.body || a.Close != c.close) {
			t.Errorf("%q: status %d, body %q, close %v", c.text, a.Status, a.Body, a.Close)
		}
	}
}

// TestConn sends requests to a server that closes every third connection: each
// is answered.
func TestConn(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if n++; n%3 == 0 {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	}))
	defer s.Close()
	c := Conn{Host: strings.TrimPrefix(s.URL, "http://")}
	defer c.Close()
	for i := range 10 {
		body := strings.Repeat("x", i)
		a, err := c.Do(Request(nil, []byte("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: "), []byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != 200 || string(a.Body) != "/a "+body {
			t.Errorf("status %d, %q", a.Status, a.Body)
		}
	}
	// A refusal while the body is still being written counts.
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }))
	defer refuses.Close()
	c2 := Conn{Host: strings.TrimPrefix(refuses.URL, "http://")}
	defer c2.Close()
	if a, err := c2.Do(Request(nil, []byte("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: "), make([]byte, 200<<10))); err != nil || a.Status != 413 {
		t.Errorf("a body that is refused: %v, %v", a, err)
	}
	if _, err := (&Conn{Host: "127.0.0.1:1"}).Do(nil); err == nil {
		t.Error("no error without a server")
	}
}
