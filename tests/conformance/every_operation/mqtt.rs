//! MQTT's packets.
