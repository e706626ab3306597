// Package email tells incidents by SMTP.
package email

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/webhook"
)

// The ways to protect a conversation.
const (
	StartTLS = "starttls" // demanded: a server that does not offer it gets nothing
	TLS      = "tls"      // from the first byte
	None     = "none"     // for a relay on a network of one's own; without a password
)

// Target is who gets the mail, by which server.
type Target struct {
	Address        string // HOST:PORT of the server
	Security       string // starttls, tls or none; empty: starttls
	User, Password string // of the server; empty: none
	// Hello is the name that is said to the server, as relays ask for one that is
	// not everybody's (RFC 5321, 4.1.1.1); empty: localhost.
	Hello  string
	From   string
	To     []string
	Dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	}
	// RootCAs and the like, for servers of one's own; nil: the system's.
	TLS *tls.Config
}

// Check reports what is wrong with the target.
func (t *Target) Check() error {
	if host, port, err := net.SplitHostPort(t.Address); err != nil || host == "" || port == "" {
		return fmt.Errorf("smtp: %q: want HOST:PORT", t.Address)
	}
	switch t.Security {
	case "", StartTLS, TLS:
	case None:
		if t.User != "" {
			return fmt.Errorf("security: none with a user: want starttls or tls, or the password would be sent in the clear")
		}
	default:
		return fmt.Errorf("security: %q: want starttls, tls or none", t.Security)
	}
	if len(t.Hello) > 255 || strings.ContainsFunc(t.Hello, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("hello: %.64q: want a host's name, or an address in brackets", t.Hello)
	}
	if _, err := mail.ParseAddress(t.From); err != nil {
		return fmt.Errorf("from: %q: want an address", t.From)
	}
	if len(t.To) == 0 || len(t.To) > 50 {
		return fmt.Errorf("to: %d: want 1 to 50 addresses", len(t.To))
	}
	for i, to := range t.To {
		if _, err := mail.ParseAddress(to); err != nil {
			return fmt.Errorf("to[%d]: %q: want an address", i, to)
		}
	}
	return nil
}

// Body returns the mail of a notification, from its header to its end (RFC 5322).
// From and To pass [Target.Check].
func (t *Target) Body(n *alert.Notification) ([]byte, error) {
	if len(n.Items) == 0 {
		return nil, fmt.Errorf("write a mail: message %s has no items", n.ID)
	}
	from, err := mail.ParseAddress(t.From)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	var to []string
	for _, text := range t.To {
		a, err := mail.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("to: %w", err)
		}
		to = append(to, a.String())
	}
	subject := n.Items[0].Title()
	if more := len(n.Items) - 1; more > 0 {
		subject += fmt.Sprintf(", and %d more", more)
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	header("From", from.String())
	header("To", strings.Join(to, ",\r\n "))
	header("Subject", mime.QEncoding.Encode("utf-8", subject))
	header("Date", n.At.Format(time.RFC1123Z))
	header("Message-ID", "<"+n.ID+"@"+domain+">")
	header("References", "<"+n.Items[0].Dedup+"@"+domain+">") // so that clients keep together what is of one incident
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	for i := range n.Items {
		it := &n.Items[i]
		// Writes to a buffer do not fail.
		fmt.Fprintf(w, "%s\r\n%s\r\n\r\n", it.Title(), strings.Join(it.Lines(), "\r\n"))
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write a mail: %w", err)
	}
	return b.Bytes(), nil
}

// Tell implements [webhook.Teller] by one conversation.
func (t *Target) Tell(ctx context.Context, m webhook.Message) (webhook.Answer, error) {
	err := t.send(ctx, m.Body)
	var said *textproto.Error
	switch {
	case err == nil:
		return webhook.Answer{Status: 250}, nil
	case errors.As(err, &said):
		return webhook.Answer{Status: said.Code}, err
	}
	return webhook.Answer{}, err
}

func (t *Target) send(ctx context.Context, body []byte) error {
	host, _, err := net.SplitHostPort(t.Address)
	if err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	conn, err := t.Dialer.DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })() // net/smtp knows no contexts
	config := t.TLS.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	config.ServerName = host
	if t.Security == TLS {
		conn = tls.Client(conn, config)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	defer c.Close()
	if err := c.Hello(cmp.Or(t.Hello, "localhost")); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if t.Security == "" || t.Security == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errors.New("the server offers no STARTTLS, and nothing is sent in the clear")
		}
		if err := c.StartTLS(config); err != nil {
			return fmt.Errorf("start TLS: %w", err)
		}
	}
	if t.User != "" {
		if err := c.Auth(smtp.PlainAuth("", t.User, t.Password, host)); err != nil {
			return fmt.Errorf("log in: %w", err)
		}
	}
	if err := t.transfer(c, body); err != nil {
		var said *textproto.Error
		if errors.As(err, &said) && said.Code/100 == 5 {
			return fmt.Errorf("%w: %w", webhook.ErrRejected, err)
		}
		return err
	}
	// The server has the mail; what it says to a goodbye changes nothing.
	_ = c.Quit()
	return nil
}

// transfer hands over the mail. A recipient that is refused does not keep the mail
// from the others; the error is the last one's where all are.
func (t *Target) transfer(c *smtp.Client, body []byte) error {
	from, err := mail.ParseAddress(t.From)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if err := c.Mail(from.Address); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	taken := 0
	var refused error
	for _, text := range t.To {
		to, err := mail.ParseAddress(text)
		if err == nil {
			err = c.Rcpt(to.Address)
		}
		if err != nil {
			refused = fmt.Errorf("recipient %s: %w", text, err)
			continue
		}
		taken++
	}
	if taken == 0 {
		return refused
	}
	w, err := c.Data()
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return nil
}
