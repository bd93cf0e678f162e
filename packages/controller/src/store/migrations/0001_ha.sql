CREATE TABLE `ha_disarms` (
	`key` text PRIMARY KEY NOT NULL,
	`scope` text NOT NULL,
	`until_ms` integer NOT NULL,
	`who` text NOT NULL,
	`why` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `ha_failovers` (
	`key` text PRIMARY KEY NOT NULL,
	`uuid` text NOT NULL,
	`instance_name` text NOT NULL,
	`generation` integer NOT NULL,
	`from_host_id` text NOT NULL,
	`to_host_id` text,
	`why` text NOT NULL,
	`clock` text NOT NULL,
	`proofs` text NOT NULL,
	`answered_ms` integer
);
--> statement-breakpoint
CREATE TABLE `ha_hosts` (
	`host_id` text PRIMARY KEY NOT NULL,
	`pools` text NOT NULL,
	`can_power_off` integer NOT NULL,
	`phase` text NOT NULL,
	`why` text NOT NULL,
	`boot_id` text NOT NULL,
	`verdict` text,
	`proofs` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `ha_instances` (
	`uuid` text PRIMARY KEY NOT NULL,
	`generation` integer NOT NULL,
	`last_generation` integer NOT NULL,
	`host_id` text NOT NULL,
	`boot_id` text NOT NULL,
	`pools` text NOT NULL,
	`priority` text NOT NULL,
	`memory_mib` integer NOT NULL,
	`isolation` text NOT NULL,
	`is_wanted` integer NOT NULL,
	`is_ending` integer NOT NULL,
	`state` text NOT NULL,
	`why` text NOT NULL,
	`proofs` text NOT NULL,
	`started_by` text NOT NULL,
	`relocations` integer NOT NULL,
	`failed_starts` integer NOT NULL,
	`avoid` text NOT NULL,
	`migration` text,
	`clock` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `host_fencing` (
	`host_id` text PRIMARY KEY NOT NULL,
	`power` text,
	`has_watchdog` integer,
	`drill` text
);
--> statement-breakpoint
CREATE TABLE `pool_leases` (
	`disk_pool_uuid` text PRIMARY KEY NOT NULL,
	`slots` integer NOT NULL,
	`taken` text NOT NULL,
	`settings` text NOT NULL,
	`pool_class` text NOT NULL,
	`why` text NOT NULL,
	`trial` text,
	`tried_at_ms` integer,
	`tried_of` text NOT NULL
);
--> statement-breakpoint
ALTER TABLE `instances` ADD `ha_priority` text DEFAULT 'medium' NOT NULL;--> statement-breakpoint
ALTER TABLE `instances` ADD `ha_isolation` text DEFAULT 'leave' NOT NULL;