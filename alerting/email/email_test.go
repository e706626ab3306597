package email

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/webhook"
)

// server is a small SMTP server: it speaks as RFC 5321 and 3207 have it, and
// refuses what the test names.
type server struct {
	t        *testing.T
	listener net.Listener
	tls      *tls.Config // nil: none is offered
	implicit bool
	refuse   map[string]string // answer by the verb, or by the recipient's address
	mails    chan received
}

type received struct {
	hello   string
	from    string
	to      []string
	data    string
	user    string
	secured bool
}

func start(t *testing.T, s *server) *server {
	t.Helper()
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.listener.Close() })
	s.t, s.mails = t, make(chan received, 10)
	go func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	var got received
	if s.implicit {
		c = tls.Server(c, s.tls)
		got.secured = true
	}
	text := textproto.NewConn(c)
	say := func(line string) { _ = text.PrintfLine("%s", line) }
	say("220 mail.example ready")
	for {
		line, err := text.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		if a := s.refuse[strings.ToUpper(verb)]; a != "" {
			say(a)
			continue
		}
		switch strings.ToUpper(verb) {
		case "EHLO":
			got.hello = rest
			if s.tls != nil && !got.secured {
				say("250-mail.example")
				say("250-STARTTLS")
			} else {
				say("250-mail.example")
			}
			say("250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go on")
			c = tls.Server(c, s.tls)
			text, got.secured = textproto.NewConn(c), true
		case "AUTH":
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			got.user = strings.ReplaceAll(string(raw), "\x00", " ")
			say("235 welcome")
		case "MAIL":
			got.from = rest
			say("250 ok")
		case "RCPT":
			if a := s.refuse[rest]; a != "" {
				say(a)
				continue
			}
			got.to = append(got.to, rest)
			say("250 ok")
		case "DATA":
			say("354 go on")
			data, err := io.ReadAll(text.DotReader())
			if err != nil {
				return
			}
			got.data = string(data)
			s.mails <- got
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 " + verb)
		}
	}
}

func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

func notification() *alert.Notification {
	return &alert.Notification{ID: "alert_1", Tenant: "shop", SLO: "checkout", At: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Items: []alert.Item{
		{Event: alert.Opened, Key: alert.Key{Tenant: "shop", SLO: "checkout", Cohort: "größer\r\nBcc: eve@x.example"}, Dedup: "d1", Severity: "page", Sentence: "Roll back.\r\n.\r\nRCPT TO:<eve@x.example>"},
		{Event: alert.Resolved, Key: alert.Key{Tenant: "shop", SLO: "checkout", Cohort: "2"}, Severity: "ticket"}}}
}

func tell(t *testing.T, target *Target) (webhook.Answer, error) {
	t.Helper()
	if err := target.Check(); err != nil {
		t.Fatal(err)
	}
	body, err := target.Body(notification())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return target.Tell(ctx, webhook.Message{Body: body})
}

func TestConversation(t *testing.T) {
	offered, trusted := certificate(t)
	for security, s := range map[string]*server{StartTLS: {tls: offered}, TLS: {tls: offered, implicit: true}, None: {}} {
		t.Run(security, func(t *testing.T) {
			start(t, s)
			target := &Target{Address: s.listener.Addr().String(), Security: security, From: "Serin <serin@x.example>", To: []string{"ann@x.example", "Bob <bob@x.example>"}, Dialer: &net.Dialer{}, TLS: trusted}
			if security != None {
				target.User, target.Password = "serin", "secret"
			}
			if a, err := tell(t, target); err != nil || a.Status != 250 {
				t.Fatalf("%+v, %v", a, err)
			}
			got := <-s.mails
			if got.secured != (security != None) || !strings.HasPrefix(got.from, "FROM:<serin@x.example>") || strings.Join(got.to, " ") != "TO:<ann@x.example> TO:<bob@x.example>" {
				t.Errorf("%+v", got)
			}
			if security != None && got.user != " serin secret" {
				t.Errorf("logged in as %q", got.user)
			}
			m, err := mail.ReadMessage(bufio.NewReader(strings.NewReader(got.data)))
			if err != nil {
				t.Fatal(err)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil || !strings.Contains(subject, "[PAGE] checkout of größer Bcc: eve@x.example") || !strings.HasSuffix(subject, ", and 1 more") {
				t.Errorf("subject %q, %v", subject, err)
			}
			if m.Header.Get("Bcc") != "" || m.Header.Get("Message-Id") != "<alert_1@x.example>" || m.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("header %v", m.Header)
			}
			text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
			if err != nil || !strings.Contains(string(text), "Roll back.") || !strings.Contains(string(text), "[RESOLVED]") {
				t.Errorf("%v: %s", err, text)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	_, trusted := certificate(t)
	other, _ := certificate(t)
	base := Target{Security: None, From: "serin@x.example", To: []string{"ann@x.example", "bob@x.example"}, Dialer: &net.Dialer{}, TLS: trusted}
	for name, c := range map[string]struct {
		server   server
		security string
		status   int
		want     string // of the error; empty: told
		rejected bool
	}{
		"one recipient of two is unknown":   {server{refuse: map[string]string{"TO:<ann@x.example>": "550 who?"}}, None, 250, "", false},
		"all recipients are unknown":        {server{refuse: map[string]string{"RCPT": "550 who?"}}, None, 550, "who?", true},
		"greylisted: it is tried again":     {server{refuse: map[string]string{"RCPT": "451 later"}}, None, 451, "later", false},
		"the sender is unknown":             {server{refuse: map[string]string{"MAIL": "553 no"}}, None, 553, "no", true},
		"the content is refused":            {server{refuse: map[string]string{"DATA": "554 spam"}}, None, 554, "spam", true},
		"no STARTTLS is offered":            {server{}, StartTLS, 0, "in the clear", false},
		"the certificate is somebody's":     {server{tls: other}, StartTLS, 0, "certificate", false},
		"the server is of another protocol": {server{}, TLS, 0, "tls", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, &c.server)
			target := base
			target.Address, target.Security = s.listener.Addr().String(), c.security
			a, err := tell(t, &target)
			if a.Status != c.status || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || errors.Is(err, webhook.ErrRejected) != c.rejected {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
}

// TestHanging has a server that says nothing: the deadline ends it.
func TestHanging(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	target := Target{Address: l.Addr().String(), Security: None, From: "a@x.example", To: []string{"b@x.example"}, Dialer: &net.Dialer{}}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := target.Tell(ctx, webhook.Message{Body: []byte("x")}); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestCheck(t *testing.T) {
	good := Target{Address: "mail.example:587", From: "a@x.example", To: []string{"b@x.example"}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Target){
		"HOST:PORT":               func(t *Target) { t.Address = "mail.example" },
		"security: \"ssl\"":       func(t *Target) { t.Security = "ssl" },
		"sent in the clear":       func(t *Target) { t.Security, t.User = None, "u" },
		"from: \"x\"":             func(t *Target) { t.From = "x" },
		"to: 0":                   func(t *Target) { t.To = nil },
		"to[0]: \"b@x\\r\\nBcc\"": func(t *Target) { t.To = []string{"b@x\r\nBcc"} },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestHello has a relay that takes mail from nobody who does not say its name, as
// Google's does.
func TestHello(t *testing.T) {
	for hello, want := range map[string]string{"": "localhost", "serin.shop.example": "serin.shop.example"} {
		s := start(t, &server{})
		to := &Target{Address: s.listener.Addr().String(), Security: None, Hello: hello, From: "serin@shop.example", To: []string{"ops@shop.example"}, Dialer: &net.Dialer{}}
		if err := to.Check(); err != nil {
			t.Fatal(err)
		}
		if a, err := to.Tell(t.Context(), webhook.Message{Body: []byte("x")}); err != nil || a.Status != 250 {
			t.Fatal(a, err)
		}
		if got := <-s.mails; got.hello != want {
			t.Errorf("EHLO %q, want %q", got.hello, want)
		}
	}
	for _, bad := range []string{"serin shop", "a\r\nMAIL", strings.Repeat("a", 256)} {
		to := &Target{Address: "mail.example:25", Security: None, Hello: bad, From: "serin@shop.example", To: []string{"ops@shop.example"}}
		if err := to.Check(); err == nil || !strings.HasPrefix(err.Error(), "hello: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
