package machine

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"
)

const pollEvery = 20 * time.Millisecond

// awaitNeeds waits until what a program needs answers.
func awaitNeeds(needs string) {
	if needs == "" {
		return
	}
	answers := connects
	if strings.HasPrefix(needs, "https:") {
		answers = succeeds()
	}
	for !answers(needs) {
		time.Sleep(pollEvery)
	}
}

func connects(needs string) bool {
	network, address, _ := strings.Cut(needs, ":")
	connection, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

// succeeds asks a server whether it is ready. Whose certificate it shows does not matter: nothing is told to it and
// nothing is believed but that it is up.
func succeeds() func(string) bool {
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}},
	}
	return func(url string) bool {
		answer, err := client.Get(url)
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}
}
